"""The geometry of a CNNectomeUNet, without a tensor and without a forward pass."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from blockwise_predict.architectures.config import CNNectomeUNetConfig
from blockwise_predict.architectures.sizes import AxisSizes, ShapeError

Shape = tuple[int, ...]
Kernels = tuple[tuple[Shape, ...], ...]
Rounding = Literal["down", "up", "nearest"]


@dataclass(frozen=True)
class Channels:
    """Feature maps of a network as CNNectomeUNet builds it, and what kind of layers it has.

    head: output channels of the prediction head, None if there is no head.
    """

    fmaps_in: int = 1
    fmaps_out: int = 1
    num_fmaps: int = 1
    fmap_inc_factor: int = 1
    head: int | None = None
    constant_upsample: bool = True
    batch_norm: bool = False

    def left(self, level: int) -> int:
        """Feature maps of a level on the way down."""
        return self.num_fmaps * self.fmap_inc_factor**level

    def upsampled(self, level: int) -> int:
        """Feature maps that upsampling gives a level: contracted everywhere but at the top."""
        return self.left(level + (level == 0))

    def right(self, level: int) -> int:
        """Feature maps of a level on the way up."""
        return self.left(level) if level else self.fmaps_out


@dataclass(frozen=True)
class UNetShapes:
    """What goes in and what comes out. All shapes are per spatial axis.

    downsample_factors, kernel_size_down, kernel_size_up, padding, use_attention, upsample_factors:
        as in CNNectomeUNetConfig, defaults filled in.
    head_kernel_size: kernel of the prediction head, ones if there is none.
    channels: feature maps, which the cost of a pass depends on.
    """

    downsample_factors: tuple[Shape, ...]
    kernel_size_down: Kernels
    kernel_size_up: Kernels
    padding: str
    use_attention: bool
    upsample_factors: tuple[Shape, ...]
    head_kernel_size: Shape
    channels: Channels

    @classmethod
    def from_config(
        cls,
        config: CNNectomeUNetConfig,
        head_kernel_size: Sequence[int] | None = None,
        head_channels: int | None = None,
    ) -> UNetShapes:
        """The geometry of a network, and of a prediction head after it if its kernel is given."""
        dims, levels = len(config.input_shape), len(config.downsample_factors) + 1
        head = head_kernel_size is not None
        return cls.from_layers(
            config.downsample_factors,
            config.kernel_size_down or _default_kernels(dims, levels),
            config.kernel_size_up or _default_kernels(dims, levels - 1),
            config.padding,
            use_attention=config.use_attention,
            upsample_factors=_nested(config.upsample_factors or ()),
            head_kernel_size=tuple(head_kernel_size or (1,) * dims),
            channels=Channels(
                fmaps_in=config.fmaps_in,
                fmaps_out=config.fmaps_out,
                num_fmaps=config.num_fmaps,
                fmap_inc_factor=config.fmap_inc_factor,
                head=(head_channels or config.fmaps_out) if head else None,
                constant_upsample=config.constant_upsample,
                batch_norm=config.batch_norm,
            ),
        )

    @classmethod
    def from_layers(
        cls,
        downsample_factors: Sequence[Sequence[int]],
        kernel_size_down: Sequence[Sequence[Sequence[int]]],
        kernel_size_up: Sequence[Sequence[Sequence[int]]],
        padding: str,
        *,
        use_attention: bool = False,
        upsample_factors: tuple[Shape, ...] = (),
        head_kernel_size: Shape | None = None,
        channels: Channels | None = None,
    ) -> UNetShapes:
        """The geometry of a U-Net from its layers' sizes.

        Raises RuntimeError if levels lack kernels, or if these or the factors differ in dimension.
        """
        factors = _nested(downsample_factors)
        down = tuple(map(_nested, kernel_size_down))
        up = tuple(map(_nested, kernel_size_up))
        dims, levels = len(factors[0]), len(factors) + 1
        for name, kernels, needed in (
            ("kernel_size_down", down, levels),
            ("kernel_size_up", up, levels - 1),
        ):
            if len(kernels) < needed:
                raise RuntimeError(f"{name} has {len(kernels)} levels, the network needs {needed}")
            _check_dims(name, (kernel for level in kernels for kernel in level), dims)
        _check_dims("downsample_factors", factors, dims)
        _check_dims("upsample_factors", upsample_factors, dims)
        if padding not in ("valid", "same"):
            raise RuntimeError(f"padding is {padding!r}, it can be 'valid' or 'same'")
        return cls(
            factors,
            down,
            up,
            padding,
            use_attention,
            upsample_factors,
            head_kernel_size or (1,) * dims,
            channels or Channels(),
        )

    @cached_property
    def axes(self) -> tuple[AxisSizes, ...]:
        """The arithmetic of each axis."""
        levels = len(self.downsample_factors)

        def along(axis: int, shapes: Iterable[Shape]) -> tuple[int, ...]:
            return tuple(shape[axis] for shape in shapes)

        return tuple(
            AxisSizes(
                factors=along(axis, self.downsample_factors),
                down=tuple(along(axis, level) for level in self.kernel_size_down[: levels + 1]),
                up=tuple(along(axis, level) for level in self.kernel_size_up[:levels]),
                same=self.padding == "same",
                tail=along(axis, self.upsample_factors),
                tail_kernels=along(axis, self.kernel_size_up[-1]),
                head_kernel=self.head_kernel_size[axis],
            )
            for axis in range(self.dims)
        )

    @property
    def dims(self) -> int:
        """Number of spatial axes."""
        return len(self.downsample_factors[0])

    @property
    def period(self) -> Shape:
        """Input voxels of the smallest shift that shifts the output and does nothing else."""
        return tuple(axis.period for axis in self.axes)

    @property
    def scale(self) -> Shape:
        """Output voxels per input voxel."""
        return tuple(axis.scale for axis in self.axes)

    @property
    def context(self) -> Shape:
        """`input_shape * scale - output_shape`, the same for every valid input shape."""
        return tuple(axis.context for axis in self.axes)

    @property
    def min_input_shape(self) -> Shape:
        """Smallest valid input."""
        return tuple(axis.smallest for axis in self.axes)

    @property
    def receptive_margin(self) -> Shape:
        """Output voxels at each end, from the input's edge, that same padding's zeros can reach.

        For passes whose begins differ by multiples of the period, whatever their sizes: what lies
        deeper than this is equal in all of them. Zeros for valid padding. Context that a network
        with same padding loses all the same (to even kernels, super-resolution, a head of 3, odd
        factors) is part of the margin.
        """
        return tuple(axis.margin for axis in self.axes)

    @property
    def equivariant(self) -> bool:
        """Whether an output voxel is the same wherever on the period's lattice its pass begins.

        Same padding's zeros and attention's upsampling with aligned corners depend on the tile.
        """
        return self.padding == "valid" and not self.use_attention

    def crop_factor(self, level: int) -> Shape:
        """What feature maps of a level are cropped to a multiple of, on the way up."""
        return tuple(axis.crop_factor(level) for axis in self.axes)

    def output_shape(self, input_shape: Sequence[int]) -> Shape:
        """The spatial output shape.

        Raises RuntimeError for a shape that the network cannot take, as the network does: which
        size, at which level, and the nearest sizes that work.
        """
        shape = tuple(input_shape)
        if len(shape) != self.dims:
            raise RuntimeError(
                f"spatial input shape {shape} has {len(shape)} axes, the network is {self.dims}-D "
                "and takes [batch, channel, *spatial]"
            )
        return tuple(self._output_size(number, shape) for number in range(self.dims))

    def _output_size(self, number: int, shape: Shape) -> int:
        axis, size = self.axes[number], shape[number]
        try:
            return axis.output_size(size)
        except ShapeError as error:
            nearest = " and ".join(map(str, axis.nearest(size)))
            raise RuntimeError(
                f"input shape {shape}: size {size} of axis {number} does not work, {error}. "
                f"Nearest that work: {nearest} (any {axis.smallest} + n*{axis.period})."
            ) from None

    def valid_input_shape(self, wish: Sequence[int], rounding: Rounding = "nearest") -> Shape:
        """The valid input shape next to a wish, axis by axis, never below `min_input_shape`.

        Of two equally near sizes the larger one is taken.
        """
        shape = []
        for axis, size in zip(self.axes, wish, strict=True):
            below, *above = axis.nearest(size)
            up = bool(above) and (
                rounding == "up" or (rounding == "nearest" and above[0] - size <= size - below)
            )
            shape.append(above[0] if up else below)
        return tuple(shape)


def _nested(shapes: Iterable[Sequence[int]]) -> tuple[Shape, ...]:
    return tuple(tuple(shape) for shape in shapes)


def _default_kernels(dims: int, levels: int) -> list[list[Shape]]:
    return [[(3,) * dims, (3,) * dims]] * levels


def _check_dims(name: str, shapes: Iterable[Any], dims: int) -> None:
    if dims not in (2, 3):
        raise RuntimeError(f"downsample_factors has {dims} axes; only 2-D and 3-D are implemented")
    for shape in shapes:
        if len(shape) != dims:
            raise RuntimeError(f"{name} has {shape}, but the network is {dims}-D")
