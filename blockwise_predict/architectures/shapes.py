"""The shape arithmetic of a CNNectomeUNet, without tensors or forward passes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from blockwise_predict.architectures.channels import Channels, check_upsampling
from blockwise_predict.architectures.config import CNNectomeUNetConfig
from blockwise_predict.architectures.interface import Rounding, Shape
from blockwise_predict.architectures.kernels import (
    Kernels,
    acts_in_time,
    check_dims,
    check_time,
    nested,
    network_kernels,
    with_time,
)
from blockwise_predict.architectures.sizes import AxisSizes, ShapeError


@dataclass(frozen=True)
class UNetShapes:
    """Input and output shapes of a network; all shapes are spatial.

    A network with time has the axes (t, z, y, x) everywhere: factors and kernels without a
    component for time have 1 there, and an output without time counts as one frame.

    downsample_factors, kernel_size_down, kernel_size_up, padding, use_attention, upsample_factors,
        super_resolution_kernels: as in CNNectomeUNetConfig, with defaults filled in.
    head_kernel_size: kernel size of the prediction head, ones if there is no head.
    channels: feature maps, which determine the cost of a pass.
    time_dropped: whether the network drops time on the way. Then it takes the number of frames of
        training only: with more, kernels would act in time that do not.
    """

    downsample_factors: tuple[Shape, ...]
    kernel_size_down: Kernels
    kernel_size_up: Kernels
    padding: str
    use_attention: bool
    upsample_factors: tuple[Shape, ...]
    super_resolution_kernels: tuple[Shape, ...]
    head_kernel_size: Shape
    channels: Channels
    time_dropped: bool = False

    @classmethod
    def from_config(
        cls,
        config: CNNectomeUNetConfig,
        head_kernel_size: Sequence[int] | None = None,
        head_channels: int | None = None,
    ) -> UNetShapes:
        """The shapes of a network, with a prediction head if its kernel size is given.

        Raises the errors of `network_kernels` and `from_layers`, and RuntimeError for inconsistent
        upsampling.
        """
        kernels = network_kernels(config)
        head = head_kernel_size is not None
        check_upsampling(config)
        contraction = config.upsample_channel_contraction
        shapes = cls.from_layers(
            config.downsample_factors,
            kernels.down,
            kernels.up,
            config.padding,
            use_attention=config.use_attention,
            upsample_factors=nested(config.upsample_factors or ()),
            super_resolution_kernels=nested(config.super_resolution_kernels or ()),
            head_kernel_size=None if head_kernel_size is None else tuple(head_kernel_size),
            channels=Channels(
                fmaps_in=config.fmaps_in,
                fmaps_out=config.fmaps_out,
                num_fmaps=config.num_fmaps,
                fmap_inc_factor=config.fmap_inc_factor,
                head=(head_channels or config.fmaps_out) if head else None,
                heads=config.num_heads,
                constant_upsample=config.constant_upsample,
                batch_norm=config.batch_norm,
                activation_on_upsample=config.activation_on_upsample,
                upsample_channel_contraction=None if contraction is None else tuple(contraction),
                upsample_convolution=config.upsample_convolution,
            ),
        )
        return replace(shapes, time_dropped=kernels.frames == 1)

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
        super_resolution_kernels: tuple[Shape, ...] = (),
        head_kernel_size: Shape | None = None,
        channels: Channels | None = None,
    ) -> UNetShapes:
        """The shapes of a U-Net given by kernel sizes and factors.

        It has time if a kernel of a 3-D network has four components. Raises RuntimeError if a level
        has no kernels, if kernels or factors differ in their number of axes, for a network that is
        neither 2-D nor 3-D, and for what is not implemented with time.
        """
        factors = nested(downsample_factors)
        down = tuple(map(nested, kernel_size_down))
        up = tuple(map(nested, kernel_size_up))
        dims, levels = len(factors[0]), len(factors) + 1
        if dims not in (2, 3):
            raise RuntimeError(
                f"downsample_factors has {dims} axes; only 2-D and 3-D are implemented"
            )
        head = head_kernel_size or (1,) * dims
        if dims == 3 and acts_in_time((*down, *up)):
            check_time(padding, use_attention, upsample_factors)
            dims, (head,) = 4, with_time([head])
            factors = with_time(factors)
            down, up = tuple(map(with_time, down)), tuple(map(with_time, up))
        for name, kernels, needed in (
            ("kernel_size_down", down, levels),
            ("kernel_size_up", up, levels - 1),
        ):
            if len(kernels) < needed:
                raise RuntimeError(f"{name} has {len(kernels)} levels, but needs {needed}")
            check_dims(name, (kernel for level in kernels for kernel in level), dims)
        check_dims("downsample_factors", factors, dims)
        check_dims("upsample_factors", upsample_factors, dims)
        check_dims("super_resolution_kernels", super_resolution_kernels, dims)
        if padding not in ("valid", "same"):
            raise RuntimeError(f"padding is {padding!r}, but must be 'valid' or 'same'")
        return cls(
            factors,
            down,
            up,
            padding,
            use_attention,
            upsample_factors,
            super_resolution_kernels or up[-1],
            head,
            channels or Channels(),
        )

    @cached_property
    def axes(self) -> tuple[AxisSizes, ...]:
        """The shape arithmetic of each axis."""
        levels = len(self.downsample_factors)

        def along(axis: int, shapes: Iterable[Shape]) -> tuple[int, ...]:
            return tuple(shape[axis] for shape in shapes)

        return tuple(
            AxisSizes(
                factors=along(axis, self.downsample_factors),
                down=tuple(along(axis, level) for level in self.kernel_size_down[: levels + 1]),
                up=tuple(along(axis, level) for level in self.kernel_size_up[:levels]),
                same=self.padding == "same",
                upsample_factors=along(axis, self.upsample_factors),
                upsample_kernels=along(axis, self.super_resolution_kernels),
                head_kernel=self.head_kernel_size[axis],
                fixed=self.time_dropped and axis == 0,
            )
            for axis in range(self.dims)
        )

    @property
    def dims(self) -> int:
        """Number of axes: 4 with time."""
        return len(self.downsample_factors[0])

    @property
    def has_time(self) -> bool:
        """Whether the first axis is time."""
        return self.dims == 4

    @property
    def period(self) -> Shape:
        """Smallest shift of the input, in input voxels, under which the network is equivariant."""
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
        """Smallest valid input shape."""
        return tuple(axis.smallest for axis in self.axes)

    @property
    def receptive_margin(self) -> Shape:
        """Output voxels from the input's edge that may depend on the zeros of same padding.

        Passes whose begins differ by multiples of the period agree everywhere deeper than this,
        whatever their sizes. All 0 for valid padding. Context that a network with same padding
        still loses (to even kernels, super-resolution, a head of 3, odd factors) is included.
        """
        return tuple(axis.margin for axis in self.axes)

    @property
    def lost(self) -> tuple[tuple[int, int], ...]:
        """Output voxels that a pass does not provide, at the low and the high side of each axis.

        With same padding these are the voxels that its zeros can affect, rounded up to the period
        so that pooling windows stay aligned with those of a single pass over the volume.
        """
        return tuple(map(self._lost, range(self.dims)))

    def _lost(self, axis: int) -> tuple[int, int]:
        if margin := self.receptive_margin[axis]:
            cell = self.period[axis] * self.scale[axis]
            lost = -(-margin // cell) * cell
            return lost, lost
        low = self.context[axis] // 2
        return low, self.context[axis] - low

    @property
    def equivariant(self) -> bool:
        """Whether an output voxel is the same for every pass that begins on the period's lattice.

        The zeros of same padding and the aligned corners of attention depend on the tile.
        """
        return self.padding == "valid" and not self.use_attention

    def crop_factor(self, level: int) -> Shape:
        """See `AxisSizes.crop_factor`."""
        return tuple(axis.crop_factor(level) for axis in self.axes)

    def output_shape(self, input_shape: Sequence[int]) -> Shape:
        """The output shape of an input shape.

        Raises RuntimeError for an invalid input shape, as the network does: the message names the
        size, the level where it fails, and the nearest valid sizes.
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
                f"input shape {shape}: size {size} of axis {number} is not valid, {error}. "
                f"Nearest valid sizes: {nearest} (any {axis.smallest} + n*{axis.step})."
            ) from None

    def valid_input_shape(self, wanted: Sequence[int], rounding: Rounding = "nearest") -> Shape:
        """The valid input shape closest to the wanted one, axis by axis.

        Of two equally close sizes the larger one is taken.
        """
        shape = []
        for axis, size in zip(self.axes, wanted, strict=True):
            below, *above = axis.nearest(size)
            up = bool(above) and (
                rounding == "up" or (rounding == "nearest" and above[0] - size <= size - below)
            )
            shape.append(above[0] if up else below)
        return tuple(shape)
