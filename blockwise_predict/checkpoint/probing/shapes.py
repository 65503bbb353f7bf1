"""The shape arithmetic of a network that was probed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from blockwise_predict.architectures import NetworkShapes
from blockwise_predict.architectures.interface import Rounding, Shape
from blockwise_predict.geometry.probed import ProbedAxis


@dataclass(frozen=True)
class ProbedShapes(NetworkShapes):
    """Input and output shapes of a probed network, see `NetworkShapes`.

    A network that takes a single input size along some axis is not `equivariant`, whatever its
    values do, so that all tiles get the same shape.
    """

    axes: tuple[ProbedAxis, ...]
    exact: bool

    @property
    def dims(self) -> int:
        """Number of axes."""
        return len(self.axes)

    @property
    def period(self) -> Shape:
        """Shift of the input, in input voxels, under which the network is equivariant."""
        return tuple(axis.period for axis in self.axes)

    @property
    def scale(self) -> Shape:
        """Output voxels per input voxel."""
        return tuple(axis.scale for axis in self.axes)

    @property
    def context(self) -> Shape:
        """`input_shape * scale - output_shape`."""
        return tuple(axis.context for axis in self.axes)

    @property
    def lost(self) -> tuple[tuple[int, int], ...]:
        """Output voxels that a pass does not provide, at the low and the high side of each axis."""
        return tuple((axis.low, axis.high) for axis in self.axes)

    @property
    def equivariant(self) -> bool:
        """Whether passes of any valid shape agree."""
        return self.exact and not any(axis.fixed for axis in self.axes)

    def output_shape(self, input_shape: Sequence[int]) -> Shape:
        """The output shape of an input shape. Raises RuntimeError for an invalid one."""
        if self.valid_input_shape(input_shape, "up") != tuple(input_shape):
            raise RuntimeError(
                f"{tuple(input_shape)} is not a valid input shape; the nearest one is "
                f"{self.valid_input_shape(input_shape)}"
            )
        return tuple(
            size * axis.scale - axis.context
            for size, axis in zip(input_shape, self.axes, strict=True)
        )

    def valid_input_shape(self, wanted: Sequence[int], rounding: Rounding = "nearest") -> Shape:
        """The valid input shape closest to the wanted one, axis by axis."""
        return tuple(
            _valid_size(axis, size, rounding) for axis, size in zip(self.axes, wanted, strict=True)
        )


def _valid_size(axis: ProbedAxis, wanted: int, rounding: Rounding) -> int:
    if axis.fixed or wanted <= axis.smallest:
        return axis.smallest
    beyond = wanted - axis.smallest
    shift = {"down": 0, "nearest": axis.period // 2, "up": axis.period - 1}[rounding]
    return axis.smallest + (beyond + shift) // axis.period * axis.period
