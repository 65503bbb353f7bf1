"""Sizes along one axis of a CNNectomeUNet, from its kernels and factors alone.

With k the kernel sizes of a level's convolutions and f the factor to the next level:

    left     s -> s - sum(k - 1) -> s / f                 f must divide it
    right    s -> s * f -> n*F + c -> - c                 c = sum(k - 1), n = floor((s*f - c) / F),
                                                          F the product of f from here to the bottom

Same padding adds 2*floor(k/2) to each convolution. So an axis' valid input sizes are one residue
class modulo the period (the product of its factors), and a period more gives a period more output.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod


class ShapeError(RuntimeError):
    """A size that the network cannot take, and at which level."""


@dataclass(frozen=True)
class Extent:
    """One axis of a feature map: its size, and how many voxels at its low and at its high end
    the zeros of same padding have reached."""

    size: int
    low: int = 0
    high: int = 0

    def convolved(self, kernels: Sequence[int], same: bool) -> Extent:
        """After convolutions with these kernels."""
        pad = sum(k // 2 for k in kernels) if same else 0
        size = self.size + 2 * pad - lost_by(kernels)
        return Extent(size, self.low + pad, self.high + pad)

    def pooled(self, factor: int) -> Extent:
        """After max pooling."""
        return Extent(self.size // factor, -(-self.low // factor), -(-self.high // factor))

    def upsampled(self, factor: int) -> Extent:
        """After upsampling."""
        return Extent(self.size * factor, self.low * factor, self.high * factor)

    def cropped(self, size: int) -> Extent:
        """After a centre crop; an odd voxel goes at the high end."""
        begin = (self.size - size) // 2
        end = self.size - size - begin
        return Extent(size, max(0, self.low - begin), max(0, self.high - end))

    def joined(self, other: Extent) -> Extent:
        """After a concatenation of channels."""
        return replace(self, low=max(self.low, other.low), high=max(self.high, other.high))


def lost_by(kernels: Sequence[int]) -> int:
    """Voxels that valid convolutions with these kernels take away."""
    return sum(k - 1 for k in kernels)


@dataclass(frozen=True)
class Crops:
    """Voxels cut off where a level's two maps are joined: at the low end, and at both together.

    The same for every valid input size, since those differ by multiples of the crop factor.
    """

    left_begin: int
    left_total: int
    up_begin: int
    up_total: int


@dataclass(frozen=True)
class AxisSizes:
    """Shape arithmetic of one axis: one item per level in `down`, one less in `up` and `factors`.

    After the U-Net comes, for each of `tail`, an upsampling by it and valid convolutions with
    `tail_kernels`; then a valid convolution with `head_kernel`.
    """

    factors: tuple[int, ...]
    down: tuple[tuple[int, ...], ...]
    up: tuple[tuple[int, ...], ...]
    same: bool
    tail: tuple[int, ...]
    tail_kernels: tuple[int, ...]
    head_kernel: int

    @property
    def period(self) -> int:
        """Input voxels of the smallest shift that leaves all pooling windows in place."""
        return prod(self.factors)

    @property
    def scale(self) -> int:
        """Output voxels per input voxel."""
        return prod(self.tail)

    @cached_property
    def smallest(self) -> int:
        """Smallest valid input size."""
        deepest = 1
        while not self._fits(self._input_for(deepest)):
            deepest += 1
        return self._input_for(deepest)

    @cached_property
    def context(self) -> int:
        """Output voxels lost, both ends together."""
        return self.smallest * self.scale - self.output_size(self.smallest)

    @cached_property
    def margin(self) -> int:
        """Output voxels at each end, from the input's edge, that same padding's zeros can reach."""
        reached = self._output(self.smallest)
        low = self.context // 2
        return max(reached.low + low, reached.high + self.context - low) if self.same else 0

    def output_size(self, size: int) -> int:
        """Size that comes out. Raises ShapeError if the network cannot take `size`."""
        return self._output(size).size

    def nearest(self, size: int) -> tuple[int, ...]:
        """The valid sizes around `size`: one below and one above, or the smallest."""
        if size < self.smallest:
            return (self.smallest,)
        below = size - (size - self.smallest) % self.period
        return (below,) if below == size else (below, below + self.period)

    def crop_factor(self, level: int) -> int:
        """F: what the feature maps of a level are cropped to a multiple of, on the way up."""
        return prod(self.factors[level:])

    def cropped_size(self, level: int, size: int) -> int:
        """Size of a level's upsampled feature maps after the crop to n*F + c."""
        lost, multiple = lost_by(self.up[level]), self.crop_factor(level)
        return (size - lost) // multiple * multiple + lost

    def crops(self, level: int) -> Crops:
        """What is cut off the skip connection (left) and the upsampled map (up) of a level."""
        size = self.smallest
        for kernels, factor in zip(self.down[:level], self.factors[:level], strict=True):
            size = Extent(size).convolved(kernels, self.same).size // factor
        left = Extent(size).convolved(self.down[level], self.same).size
        below = self._level(level + 1, Extent(left // self.factors[level]))
        up = below.size * self.factors[level]
        joined = self.cropped_size(level, up)
        return Crops((left - joined) // 2, left - joined, (up - joined) // 2, up - joined)

    def _input_for(self, deepest: int) -> int:
        """The input size that arrives at the deepest level with `deepest` voxels."""
        size = deepest
        for factor, kernels in zip(reversed(self.factors), self.down[-2::-1], strict=True):
            size = size * factor - Extent(0).convolved(kernels, self.same).size
        return size

    def _fits(self, size: int) -> bool:
        try:
            self._output(size)
        except ShapeError:
            return False
        return True

    def _output(self, size: int) -> Extent:
        result = self._level(0, Extent(size))
        for factor in self.tail:
            result = result.upsampled(factor).convolved(self.tail_kernels, same=False)
        result = result.convolved([self.head_kernel], same=False)
        if result.size < 1:
            raise ShapeError("nothing of it is left at the output")
        return result

    def _level(self, level: int, taken: Extent) -> Extent:
        left = taken.convolved(self.down[level], self.same)
        if left.size < 1:
            raise ShapeError(
                f"level {level} gets {taken.size}, too few for its convolutions {self.down[level]}"
            )
        if level == len(self.factors):
            return left
        factor = self.factors[level]
        if left.size % factor:
            raise ShapeError(
                f"at level {level} the convolutions leave {left.size}, not a multiple of the "
                f"downsampling factor {factor}"
            )
        up = self._level(level + 1, left.pooled(factor)).upsampled(factor)
        kernels, multiple = self.up[level], self.crop_factor(level)
        lost = lost_by(kernels)
        size = self.cropped_size(level, up.size)
        if size != up.size and size <= lost:
            raise ShapeError(
                f"at level {level} upsampling gives {up.size}, too few to crop to n*{multiple} + "
                f"{lost} for the convolutions {kernels}"
            )
        if size > left.size:
            # Feature maps that grow; every size has it, so this is no ShapeError.
            raise RuntimeError(
                f"no input size works: the skip connection of level {level} is smaller than what "
                "it is joined to. With padding 'same', use odd kernel sizes."
            )
        joined = up.cropped(size).joined(left.cropped(size))
        result = joined.convolved(kernels, self.same)
        if result.size < 1:
            raise ShapeError(
                f"at level {level} upsampling gives {up.size}, too few for the convolutions "
                f"{kernels}"
            )
        return result
