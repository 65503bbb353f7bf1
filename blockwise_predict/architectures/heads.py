"""What follows a U-Net with several outputs: a head for each expanding path, and activations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import nn

from blockwise_predict.architectures.frames import on_each_frame


class SeparateHeads(nn.ModuleList):
    """A head for each of a U-Net's expanding paths: their results, one after the other.

    Called with a list of `[B, C, *spatial]`; the results must have the same spatial shape.
    """

    def forward(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        """`[B, sum of the heads' channels, *spatial]`."""
        pairs = zip(self, maps, strict=True)
        return torch.cat([on_each_frame(head, each) for head, each in pairs], dim=1)


class OutputActivations(nn.Module):
    """The activation of each output of a network, on its range of the channels.

    `activations` has the number of channels and the activation (a `torch.nn` class, or None) of
    each output. `channels` are the numbers of its channels in the tensor that it is called with,
    which may have others; by default it has these alone, in their order.
    """

    def __init__(
        self,
        activations: Iterable[tuple[int, str | None]],
        channels: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        counts, names = zip(*activations, strict=True)
        self._channels = channels
        self._sizes: list[int] = list(counts)
        self.activations = nn.ModuleList(
            nn.Identity() if name is None else getattr(nn, name)() for name in names
        )

    @property
    def by_channel(self) -> list[str]:
        """The name of each channel's activation; `Identity` for none."""
        names = [type(module).__name__ for module in self.activations]
        pairs = zip(names, self._sizes, strict=True)
        return [name for name, size in pairs for _ in range(size)]

    def forward(self, values: torch.Tensor, channel_axis: int = 1) -> torch.Tensor:
        """Activated values, in new memory."""
        if self._channels is not None:
            picked = [values.narrow(channel_axis, number, 1) for number in self._channels]
            values = torch.cat(picked, channel_axis)
        parts = values.split(self._sizes, channel_axis)
        # Contiguous, as all channels of a network with one activation are: torch's vectorised
        # functions and its others differ in the last bit.
        pairs = zip(self.activations, parts, strict=True)
        activated = [module(part.contiguous()) for module, part in pairs]
        return torch.cat(activated, channel_axis)
