"""What the rest of the package may ask of a network's shape arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

Shape = tuple[int, ...]
Rounding = Literal["down", "up", "nearest"]


class NetworkShapes(Protocol):
    """Input and output shapes of a network; all shapes are spatial, with one item per axis.

    dims: number of axes.
    period: smallest shift of the input, in input voxels, under which the network is equivariant.
    scale: output voxels per input voxel.
    context: `input_shape * scale - output_shape`, the same for every valid input shape.
    lost: output voxels, counted from either edge of the scaled input, that a pass does not provide:
        (low, high). They are half of the context each, or more where values near a tile's edge
        depend on the edge.
    equivariant: whether an output voxel is the same for every pass that begins on the period's
        lattice.
    """

    @property
    def dims(self) -> int: ...
    @property
    def period(self) -> Shape: ...
    @property
    def scale(self) -> Shape: ...
    @property
    def context(self) -> Shape: ...
    @property
    def lost(self) -> tuple[tuple[int, int], ...]: ...
    @property
    def equivariant(self) -> bool: ...

    def output_shape(self, input_shape: Sequence[int]) -> Shape:
        """The output shape of an input shape. Raises RuntimeError for an invalid one."""

    def valid_input_shape(self, wanted: Sequence[int], rounding: Rounding = "nearest") -> Shape:
        """The valid input shape closest to the wanted one, axis by axis."""
