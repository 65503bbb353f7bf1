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
