"""One forward pass along one axis."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class AxisTile:
    """One pass along one axis: input, first output voxel, and the output voxels that are kept."""

    input_begin: int
    input_size: int
    output_begin: int
    keep_begin: int
    keep_end: int
