"""The operations of a CNNectomeUNet's forward pass, with their shapes and costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blockwise_predict.architectures.shapes import UNetShapes

Shape = tuple[int, ...]


@dataclass(frozen=True)
class LayerTrace:
    """One operation of a forward pass. Shapes are spatial; `flops` counts 2 per multiply-add.

    `held_elements` is the size of what must be kept meanwhile: skip connections, and the inputs
    that the recursion holds.
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
        """Elements in memory while the operation runs."""
        taken = self.in_channels * prod(self.in_shape) + self.out_channels * prod(self.out_shape)
        return taken + self.held_elements


def trace_layers(shapes: UNetShapes, input_shape: Shape) -> list[LayerTrace]:
    """Every operation over a valid input shape, in the order in which they run."""
    tracer = _Tracer(shapes)
    shape = tracer.level(0, input_shape, shapes.in_channels, held=0)
    channels = shapes.out_channels
    for number, factor in enumerate(shapes.tail):
        larger = tuple(s * f for s, f in zip(shape, factor, strict=True))
        tracer.upsample(f"tail {number} up", shape, larger, channels, channels, factor, 0, True)
        shape = tracer.convolve(
            f"tail {number}", larger, channels, channels, shapes.kernel_size_up[-1], 0, "valid"
        )
    if shapes.head_kernel is not None:
        kernel = (shapes.head_kernel,)
        tracer.convolve("head", shape, channels, shapes.head_channels, kernel, 0, "valid")
    return tracer.layers


class _Tracer:
    """Walks down and up the levels as the forward pass does."""

    def __init__(self, shapes: UNetShapes) -> None:
        self.layers: list[LayerTrace] = []
        self._net = shapes

    def level(self, level: int, shape: Shape, channels: int, held: int) -> Shape:
        """One level and all below it; `held` is what the levels above keep. Returns the shape."""
        net = self._net
        fmaps = net.num_fmaps * net.fmap_inc_factor**level
        kernels = net.kernel_size_down[level]
        left = self.convolve(f"down {level}", shape, channels, fmaps, kernels, held, net.padding)
        if level == net.num_levels - 1:
            return left
        # The recursion holds its own input, and the left side for the skip connection.
        held += channels * prod(shape) + fmaps * prod(left)
        factor = net.downsample_factors[level]
        pooled = tuple(s // f for s, f in zip(left, factor, strict=True))
        self._add(f"pool {level}", "pool", fmaps, fmaps, left, pooled, factor, 0, held)
        below = self.level(level + 1, pooled, fmaps, held)
        return self._right(level, below, left, fmaps, held)

    def _right(self, level: int, below: Shape, left: Shape, fmaps: int, held: int) -> Shape:
        net = self._net
        factor, kernels = net.downsample_factors[level], net.kernel_size_up[level]
        deeper = fmaps * net.fmap_inc_factor
        joined = fmaps if net.contraction and net.contraction[level] else deeper
        if net.attention:
            self._attention(level, left, below, fmaps, deeper, joined, held)
        for _ in range(net.num_heads):
            larger = tuple(s * f for s, f in zip(below, factor, strict=True))
            self.upsample(
                f"up {level}", below, larger, deeper, joined, factor, held, net.constant_upsample
            )
            cropped = _crop(larger, net.crop_factor(level), kernels)
            both = fmaps + joined
            self._add(f"join {level}", "concat", both, both, cropped, cropped, (), 0, held)
            out = net.out_channels if level == 0 else fmaps
            result = self.convolve(f"right {level}", cropped, both, out, kernels, held, net.padding)
        return result

    def convolve(
        self,
        name: str,
        shape: Shape,
        channels: int,
        out: int,
        kernels: Sequence[Shape],
        held: int,
        padding: str,
    ) -> Shape:
        """Convolutions one after another."""
        for kernel in kernels:
            pads = [k // 2 * 2 if padding == "same" else 0 for k in kernel]
            after = tuple(s + p - k + 1 for s, p, k in zip(shape, pads, kernel, strict=True))
            flops = 2 * channels * out * prod(kernel) * prod(after)
            self._add(name, "conv", channels, out, shape, after, kernel, flops, held)
            shape, channels = after, out
        return shape

    def upsample(
        self,
        name: str,
        shape: Shape,
        larger: Shape,
        channels: int,
        out: int,
        factor: Shape,
        held: int,
        constant: bool,
    ) -> None:
        """Repeated voxels and a 1x1 convolution at the larger shape, or a transposed one."""
        flops = 2 * channels * out * prod(larger)
        if constant:
            self._add(name, "upsample", channels, channels, shape, larger, factor, 0, held)
            ones = (1,) * len(shape)
            self._add(name, "conv", channels, out, larger, larger, ones, flops, held)
        else:
            self._add(name, "upsample", channels, out, shape, larger, factor, flops, held)

    def _attention(
        self, level: int, left: Shape, below: Shape, fmaps: int, deeper: int, inner: int, held: int
    ) -> None:
        ones = ((1,) * len(left),) * 2
        name = f"attention {level}"
        if level == 0:
            inner = self._net.out_channels
        pooled = tuple(
            s // f for s, f in zip(left, self._net.downsample_factors[level], strict=True)
        )
        self.convolve(name, left, fmaps, inner, ones, held, "valid")
        self.convolve(name, below, deeper, inner, ones, held, "valid")
        self.convolve(name, pooled, inner, 1, ones, held, "valid")

    def _add(
        self,
        name: str,
        kind: str,
        channels: int,
        out: int,
        shape: Shape,
        after: Shape,
        kernel: Shape,
        flops: int,
        held: int,
    ) -> None:
        self.layers.append(LayerTrace(name, kind, channels, out, shape, after, kernel, flops, held))


def _crop(shape: Shape, factor: Shape, kernels: Sequence[Shape]) -> Shape:
    lost = [sum(k[axis] - 1 for k in kernels) for axis in range(len(shape))]
    return tuple((s - c) // f * f + c for s, c, f in zip(shape, lost, factor, strict=True))
