"""Sizes along one axis of a CNNectomeUNet, from its kernels and factors alone.

With k the kernel sizes of a level's convolutions and f the factor to the next level:

    contracting   s -> s - sum(k - 1) -> s / f            f must divide it
    expanding     s -> s * f -> n*F + c -> - c            c = sum(k - 1), n = floor((s*f - c) / F),
                                                          F the product of f from here to the bottom

Same padding adds 2*floor(k/2) to each convolution. So the valid input sizes of an axis are one
residue class modulo the period (the product of its factors), and an input larger by one period has
an output larger by one period.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod


class ShapeError(RuntimeError):
    """A size is not a valid input; says at which level it fails."""


@dataclass(frozen=True)
class Extent:
    """One axis of a feature map.

    `low` and `high` are the voxels at either end that depend on the zeros of same padding.
    """

    size: int
    low: int = 0
    high: int = 0

    def convolved(self, kernels: Sequence[int], same: bool) -> Extent:
        """After convolutions with these kernels."""
        pad = sum(k // 2 for k in kernels) if same else 0
        size = self.size + 2 * pad - context_of(kernels)
        return Extent(size, self.low + pad, self.high + pad)

    def pooled(self, factor: int) -> Extent:
        """After max pooling."""
        return Extent(self.size // factor, -(-self.low // factor), -(-self.high // factor))

    def upsampled(self, factor: int) -> Extent:
        """After upsampling."""
        return Extent(self.size * factor, self.low * factor, self.high * factor)

    def cropped(self, size: int) -> Extent:
        """After a centre crop; an odd voxel is cut at the high end."""
        begin = (self.size - size) // 2
        end = self.size - size - begin
        return Extent(size, max(0, self.low - begin), max(0, self.high - end))

    def concatenated(self, other: Extent) -> Extent:
        """After concatenation with another map along the channels."""
        return replace(self, low=max(self.low, other.low), high=max(self.high, other.high))


def context_of(kernels: Sequence[int]) -> int:
    """Voxels by which valid convolutions with these kernels shrink a map."""
    return sum(k - 1 for k in kernels)


@dataclass(frozen=True)
class Crops:
    """Voxels cropped where a level's skip connection and upsampled map are merged.

    `begin` at the low end, `total` at both ends together. They are the same for every valid input
    size, since those differ by multiples of the crop factor.
    """

    skip_begin: int
    skip_total: int
    up_begin: int
    up_total: int


@dataclass(frozen=True)
class AxisSizes:
    """Shape arithmetic of one axis.

    factors: downsampling factor from each level to the next.
    down, up: kernel sizes of each level's convolutions in the contracting and in the expanding
        path, which the deepest level lacks.
    same: whether these convolutions have same padding.
    upsample_factors: one for each super-resolution step, an upsampling and then valid convolutions
        with `upsample_kernels`.
    head_kernel: kernel size of the prediction head, a valid convolution.
    fixed: whether the smallest valid size is the only one.
    """

    factors: tuple[int, ...]
    down: tuple[tuple[int, ...], ...]
    up: tuple[tuple[int, ...], ...]
    same: bool
    upsample_factors: tuple[int, ...]
    upsample_kernels: tuple[int, ...]
    head_kernel: int
    fixed: bool = False

    @property
    def period(self) -> int:
        """Smallest shift, in input voxels, that leaves all pooling windows in place."""
        return prod(self.factors)

    @property
    def step(self) -> int:
        """Distance between valid input sizes; 0 if there is only one."""
        return 0 if self.fixed else self.period

    @property
    def scale(self) -> int:
        """Output voxels per input voxel."""
        return prod(self.upsample_factors)

    @cached_property
    def smallest(self) -> int:
        """Smallest valid input size."""
        deepest = 1
        while not self._fits(self._input_for(deepest)):
            deepest += 1
        return self._input_for(deepest)

    @cached_property
    def context(self) -> int:
        """Context in output voxels, both ends together."""
        return self.smallest * self.scale - self.output_size(self.smallest)

    @cached_property
    def margin(self) -> int:
        """Output voxels from the input's edge that may depend on the zeros of same padding."""
        affected = self._output(self.smallest)
        low = self.context // 2
        return max(affected.low + low, affected.high + self.context - low) if self.same else 0

    def output_size(self, size: int) -> int:
        """The output size; raises ShapeError if `size` is not a valid input."""
        if self.fixed and size != self.smallest:
            raise ShapeError("the network takes the size of training only")
        return self._output(size).size

    def nearest(self, size: int) -> tuple[int, ...]:
        """The valid sizes nearest to `size`: itself, one below and one above, or the smallest."""
        if size < self.smallest or self.fixed:
            return (self.smallest,)
        below = size - (size - self.smallest) % self.period
        return (below,) if below == size else (below, below + self.period)

    def crop_factor(self, level: int) -> int:
        """F of the module's docstring: upsampled maps of a level are cropped to n*F + c."""
        return prod(self.factors[level:])

    def cropped_size(self, level: int, size: int) -> int:
        """Size of a level's upsampled feature maps after the crop to n*F + c."""
        lost, multiple = context_of(self.up[level]), self.crop_factor(level)
        return (size - lost) // multiple * multiple + lost

    def crops(self, level: int) -> Crops:
        """The crops where a level's skip connection and upsampled map are merged."""
        size = self.smallest
        for kernels, factor in zip(self.down[:level], self.factors[:level], strict=True):
            size = Extent(size).convolved(kernels, self.same).size // factor
        skip = Extent(size).convolved(self.down[level], self.same).size
        below = self._level(level + 1, Extent(skip // self.factors[level]))
        up = below.size * self.factors[level]
        merged = self.cropped_size(level, up)
        return Crops((skip - merged) // 2, skip - merged, (up - merged) // 2, up - merged)

    def _input_for(self, deepest: int) -> int:
        """The input size whose map has `deepest` voxels at the deepest level."""
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
        for factor in self.upsample_factors:
            result = result.upsampled(factor).convolved(self.upsample_kernels, same=False)
        result = result.convolved([self.head_kernel], same=False)
        if result.size < 1:
            raise ShapeError("no output voxel is left")
        return result

    def _level(self, level: int, source: Extent) -> Extent:
        """The output of a level and all levels below it for a map `source`."""
        skip = source.convolved(self.down[level], self.same)
        if skip.size < 1:
            raise ShapeError(
                f"level {level} gets {source.size}, too few for its convolutions {self.down[level]}"
            )
        if level == len(self.factors):
            return skip
        factor = self.factors[level]
        if skip.size % factor:
            raise ShapeError(
                f"at level {level} the convolutions leave {skip.size}, not a multiple of the "
                f"downsampling factor {factor}"
            )
        up = self._level(level + 1, skip.pooled(factor)).upsampled(factor)
        kernels, multiple = self.up[level], self.crop_factor(level)
        lost = context_of(kernels)
        size = self.cropped_size(level, up.size)
        if size != up.size and size <= lost:
            raise ShapeError(
                f"at level {level} upsampling gives {up.size}, too few to crop to n*{multiple} + "
                f"{lost} for the convolutions {kernels}"
            )
        if size > skip.size:
            # The convolutions enlarge the maps. That affects every size, so it is no ShapeError.
            raise RuntimeError(
                f"no input size is valid: the skip connection of level {level} is smaller than the "
                "upsampled map it is merged with. With padding 'same', use odd kernel sizes."
            )
        merged = up.cropped(size).concatenated(skip.cropped(size))
        result = merged.convolved(kernels, self.same)
        if result.size < 1:
            raise ShapeError(
                f"at level {level} upsampling gives {up.size}, too few for the convolutions "
                f"{kernels}"
            )
        return result
