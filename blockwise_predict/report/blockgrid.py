"""The grid of a run's blocks, as a report asks for it: sizes and places of many blocks at once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from blockwise_predict.geometry.grid import format_length
from blockwise_predict.plan.model import Plan


class BlockGrid:
    """The blocks of a plan. `shape` is the shape of their grid, `edges` are their bounds along each
    axis in output voxels from the ROI's begin: one more than there are blocks."""

    def __init__(self, plan: Plan) -> None:
        self.shape = plan.blocks_per_axis
        self.axis_names = plan.input.axis_names
        self.units = plan.output_grid.units
        self.edges: list[NDArray[np.int64]] = [
            np.minimum(np.arange(count + 1) * block, size)
            for count, block, size in zip(
                self.shape, plan.block_shape, plan.output.shape, strict=True
            )
        ]
        self._plan = plan

    @cached_property
    def positions(self) -> list[list[str]]:
        """The edges in world units, as text."""
        plan, found = self._plan, []
        grid = plan.output_grid
        for axis, edges in enumerate(self.edges):
            size, offset = grid.voxel_size[axis], grid.offset[axis]
            begin = plan.output.roi_begin[axis]
            found.append([format_length(offset + (begin + int(e)) * size) for e in edges])
        return found

    @cached_property
    def voxels(self) -> NDArray[np.float64]:
        """Number of output voxels of each block, by number."""
        return self._plan.block_voxels.ravel().astype(np.float64)

    def bounds(self, begin: Sequence[int], end: Sequence[int]) -> str:
        """The ROI of the blocks from index `begin` to `end` (half-open), in world units."""
        axes = zip(self.positions, begin, end, strict=True)
        return f"[{','.join(f'{edges[b]}:{edges[e]}' for edges, b, e in axes)}]"

    def where(self, number: int) -> str:
        """The ROI of a block, in world units."""
        index = self.index(number)
        return self.bounds(index, [i + 1 for i in index])

    def index(self, number: int) -> tuple[int, ...]:
        """The place of a block in the grid."""
        return tuple(int(i) for i in np.unravel_index(number, self.shape))
