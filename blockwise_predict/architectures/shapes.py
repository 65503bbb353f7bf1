"""Shape arithmetic of a CNNectomeUNet: what goes in, what comes out, and what it costs.

No forward pass and no tensor: sizes follow from the configuration alone, one axis at a time. With
k the kernel sizes of a level's convolutions and f its downsampling factor:

    down     s -> s - sum(k - 1)  ->  / f          (f must divide it)
    up       s -> s * f  ->  cropped to n*F + c  ->  - c
             c = sum(k - 1), F the product of the factors from this level to the deepest,
             n = floor((s*f - c) / F)

so the valid input sizes of an axis are those of one residue class modulo the period, and every
larger one by a period gives an output larger by a period.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Literal

from blockwise_predict.architectures.trace import LayerTrace, Shape, trace_layers

if TYPE_CHECKING:
    from blockwise_predict.architectures.cnnectome_unet import CNNectomeUNetConfig

Kernels = tuple[tuple[Shape, ...], ...]
Rounding = Literal["down", "up", "nearest"]


class ShapeError(RuntimeError):
    """A size that the network cannot take: along which axis, at which level, and why."""


@dataclass(frozen=True)
class UNetShapes:
    """The geometry of one network. Per axis, (z, y, x) or (y, x).

    `kernel_size_down` has one list of kernels per level, `kernel_size_up` one per level but the
    deepest. `tail` are the super-resolution factors, each followed by `tail_kernels`, and
    `head_kernel` the kernel of a prediction head. `channels` are the level 0 feature maps, their
    factor from level to level, those that go in, and those that come out.
    """

    downsample_factors: tuple[Shape, ...]
    kernel_size_down: Kernels
    kernel_size_up: Kernels
    padding: str = "valid"
    attention: bool = False
    tail: tuple[Shape, ...] = ()
    head_kernel: Shape | None = None
    in_channels: int = 1
    num_fmaps: int = 1
    fmap_inc_factor: int = 1
    out_channels: int = 1
    head_channels: int = 1
    constant_upsample: bool = True
    contraction: tuple[bool, ...] = ()
    num_heads: int = 1

    @classmethod
    def from_config(
        cls,
        config: CNNectomeUNetConfig,
        head_kernel_size: Sequence[int] | None = None,
        head_channels: int = 1,
    ) -> UNetShapes:
        """The geometry of a configuration, with a prediction head if its kernel size is given."""
        factors = tuple(tuple(f) for f in config.downsample_factors)
        levels, dims = len(factors) + 1, len(factors[0])
        return cls(
            downsample_factors=factors,
            kernel_size_down=_kernels(config.kernel_size_down, levels, dims),
            kernel_size_up=_kernels(config.kernel_size_up, levels - 1, dims),
            padding=config.padding,
            attention=config.use_attention,
            tail=tuple(tuple(f) for f in config.upsample_factors or ()),
            head_kernel=None if head_kernel_size is None else tuple(head_kernel_size),
            in_channels=config.fmaps_in,
            num_fmaps=config.num_fmaps,
            fmap_inc_factor=config.fmap_inc_factor,
            out_channels=config.fmaps_out,
            head_channels=head_channels,
            constant_upsample=config.constant_upsample,
            contraction=(False,) + (True,) * (levels - 2),
        )

    @property
    def dims(self) -> int:
        """Number of spatial axes."""
        return len(self.downsample_factors[0])

    @property
    def num_levels(self) -> int:
        """Number of resolutions."""
        return len(self.downsample_factors) + 1

    @property
    def period(self) -> Shape:
        """Product of the downsampling factors: input voxels of the smallest equivariant shift."""
        return tuple(prod(axis) for axis in zip(*self.downsample_factors, strict=True))

    @property
    def scale(self) -> Shape:
        """Output voxels per input voxel."""
        return tuple(prod(f[axis] for f in self.tail) for axis in range(self.dims))

    @cached_property
    def context(self) -> Shape:
        """Output voxels lost, both sides together; the same for every valid input shape."""
        output = self.output_shape(self.min_input_shape)
        return tuple(
            s * u - o for s, u, o in zip(self.min_input_shape, self.scale, output, strict=True)
        )

    @cached_property
    def min_input_shape(self) -> Shape:
        """Smallest input that gives an output."""
        return tuple(self._smallest(axis) for axis in range(self.dims))

    @property
    def equivariant(self) -> bool:
        """Whether a shift of the input by a period shifts the output, and does nothing else."""
        return self.padding == "valid" and not self.attention

    @property
    def receptive_margin(self) -> Shape:
        """With same padding, output voxels per side that the zeros can reach; else zeros.

        An upper bound for every phase of the lattice: the reach of each layer, times its stride.
        """
        if self.padding == "valid":
            return (0,) * self.dims
        return tuple(self._reach(axis) for axis in range(self.dims))

    def output_shape(self, input_shape: Sequence[int]) -> Shape:
        """Spatial output shape. Raises RuntimeError for a shape the network cannot take.

        The message says which size, at which level, and the nearest sizes that work.
        """
        if len(input_shape) != self.dims:
            raise RuntimeError(f"input shape {tuple(input_shape)}: the network is {self.dims}-D")
        return tuple(self._checked_size(axis, size) for axis, size in enumerate(input_shape))

    def valid_input_shape(self, wish: Sequence[int], rounding: Rounding = "down") -> Shape:
        """The valid input shape next to a wish, per axis; never below `min_input_shape`."""
        shape = []
        for size, smallest, period in zip(wish, self.min_input_shape, self.period, strict=True):
            above = size - smallest
            steps = {
                "down": above // period,
                "up": -(-above // period),
                "nearest": (2 * above + period) // (2 * period),
            }[rounding]
            shape.append(smallest + max(0, steps) * period)
        return tuple(shape)

    def trace(self, input_shape: Sequence[int]) -> list[LayerTrace]:
        """Every operation of a forward pass over a valid input shape, in order."""
        self.output_shape(input_shape)
        return trace_layers(self, tuple(input_shape))

    def flops(self, input_shape: Sequence[int]) -> int:
        """Floating-point operations of a forward pass, 2 per multiply-add of its convolutions."""
        return sum(layer.flops for layer in self.trace(input_shape))

    def peak_elements(self, input_shape: Sequence[int]) -> int:
        """Elements in memory at the worst moment of a forward pass."""
        return max(layer.live_elements for layer in self.trace(input_shape))

    def crop_factor(self, level: int) -> Shape:
        """Factor that the feature maps of a level are cropped to on the way up."""
        factors = self.downsample_factors[level:]
        return tuple(prod(f[axis] for f in factors) for axis in range(self.dims))

    def _smallest(self, axis: int) -> int:
        period = self.period[axis]
        residue = next(s for s in range(1, period + 1) if self._divisible(axis, s))
        size = residue
        while not self._fits(axis, size):
            size += period
        return size

    def _divisible(self, axis: int, size: int) -> bool:
        for kernels, factor in zip(self.kernel_size_down, self.downsample_factors, strict=False):
            size = self._convolved(size, kernels, axis)
            if size % factor[axis]:
                return False
            size //= factor[axis]
        return True

    def _fits(self, axis: int, size: int) -> bool:
        try:
            self._size(axis, size)
        except ShapeError:
            return False
        return True

    def _checked_size(self, axis: int, size: int) -> int:
        try:
            return self._size(axis, size)
        except ShapeError as error:
            smallest, period = self.min_input_shape[axis], self.period[axis]
            below = smallest + max(0, (size - smallest) // period) * period
            near = f"{below} and {below + period}" if below <= size else str(below)
            raise RuntimeError(
                f"input size {size} of axis {axis} does not work: {error}. "
                f"Nearest sizes that work: {near} (every {smallest} + n * {period})"
            ) from None

    def _size(self, axis: int, size: int) -> int:
        size = self._level_size(axis, size, 0)
        for factor in self.tail:
            size = size * factor[axis] - _lost(self.kernel_size_up[-1], axis)
        if self.head_kernel is not None:
            size -= self.head_kernel[axis] - 1
        if size < 1:
            raise ShapeError(f"nothing is left of it at the output ({size})")
        return size

    def _level_size(self, axis: int, size: int, level: int) -> int:
        left = self._convolved(size, self.kernel_size_down[level], axis)
        if left < 1:
            raise ShapeError(f"at level {level}, {size} voxels are too few for its convolutions")
        if level == self.num_levels - 1:
            return left
        factor = self.downsample_factors[level][axis]
        if left % factor:
            raise ShapeError(f"at level {level}, {left} is not a multiple of the factor {factor}")
        up = self._level_size(axis, left // factor, level + 1) * factor
        lost = _lost(self.kernel_size_up[level], axis)
        crop = self.crop_factor(level)[axis]
        cropped = (up - lost) // crop * crop + lost
        if cropped != up and cropped <= lost:
            raise ShapeError(f"at level {level}, {up} upsampled voxels are too few")
        result = self._convolved(cropped, self.kernel_size_up[level], axis)
        if result < 1 or cropped > left:
            raise ShapeError(f"at level {level}, {up} upsampled voxels are too few")
        return result

    def _convolved(self, size: int, kernels: Sequence[Shape], axis: int) -> int:
        pad = sum(k[axis] // 2 * 2 for k in kernels) if self.padding == "same" else 0
        return size + pad - _lost(kernels, axis)

    def _reach(self, axis: int) -> int:
        reach, stride = 0, 1
        for level in range(self.num_levels):
            reach += stride * sum(k[axis] // 2 for k in self.kernel_size_down[level])
            if level < self.num_levels - 1:
                reach += stride * sum(k[axis] // 2 for k in self.kernel_size_up[level])
                factor = self.downsample_factors[level][axis]
                # Pooling looks at a whole window, upsampling spreads one voxel over it, and the
                # crop to a factor can shift it by less than one window more.
                reach += 2 * stride * (factor - 1)
                stride *= factor
        reach += stride
        for tail_factor in self.tail:
            reach = reach * tail_factor[axis] + _lost(self.kernel_size_up[-1], axis)
        return reach + (0 if self.head_kernel is None else self.head_kernel[axis] // 2)


def _lost(kernels: Sequence[Shape], axis: int) -> int:
    return sum(kernel[axis] - 1 for kernel in kernels)


def _kernels(
    sizes: Sequence[Sequence[Sequence[int] | int]] | None, levels: int, dims: int
) -> Kernels:
    if sizes is None:
        return (((3,) * dims,) * 2,) * levels
    return tuple(tuple(_kernel(k, dims) for k in level) for level in sizes)


def _kernel(size: Sequence[int] | int, dims: int) -> Shape:
    return (size,) * dims if isinstance(size, int) else tuple(size)
