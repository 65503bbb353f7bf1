"""The outputs of a network: consecutive channels that belong together."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class NetworkOutput:
    """Channels of a network that are stored together, as one array with one data type.

    The outputs of a network are consecutive ranges of its channels. `name` is empty for the only
    output of a network, `activation` the name of a `torch.nn` class, or None, and `output_range`
    the bounds that the activation guarantees, if it does.
    """

    name: str
    channel_names: tuple[str, ...]
    output_range: tuple[float, float] | None
    activation: str | None = None


@dataclass(frozen=True)
class Selection:
    """Some of a network's channels, in an order of their own.

    channels: their numbers among those of the network.
    outputs: how they are stored, one after another.
    trained: the names of all channels of the network.
    all_computed: whether the network gives all its channels nevertheless, because the selected ones
        are computed from others: those of transformed copies are.
    """

    channels: tuple[int, ...]
    outputs: tuple[NetworkOutput, ...]
    trained: tuple[str, ...]
    all_computed: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the selected channels."""
        return tuple(name for output in self.outputs for name in output.channel_names)
