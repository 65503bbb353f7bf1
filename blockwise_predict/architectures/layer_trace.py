"""One operation of a forward pass, and a feature map."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from blockwise_predict.architectures.interface import Shape


@dataclass(frozen=True)
class LayerTrace:
    """One operation. Shapes are spatial, `flops` counts 2 per multiply-add.

    kind: 'conv', 'transposed_conv', 'norm', 'activation', 'pool', 'upsample', 'concat', 'pad' or
        'gate'.
    in_channels, in_shape: of its input; the skip connection of a concatenation counts as held.
    held_elements: values per batch item in memory besides input and output: skip connections, and
        inputs that a caller still refers to.
    """

    name: str
    kind: str
    in_channels: int
    out_channels: int
    in_shape: Shape
    out_shape: Shape
    kernel_size: Shape
    flops: int
    held_elements: int

    @property
    def live_elements(self) -> int:
        """Values in memory during the operation: input, output and held."""
        source = self.in_channels * prod(self.in_shape)
        return source + self.out_channels * prod(self.out_shape) + self.held_elements


@dataclass(frozen=True)
class FeatureMap:
    """A feature map."""

    channels: int
    shape: Shape

    @property
    def elements(self) -> int:
        return self.channels * prod(self.shape)
