"""The blocks of a plan in the integer coordinates of another scheduler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from funlib.geometry import Coordinate, Roi

from blockwise_predict.engine.channel_moves import offset_of
from blockwise_predict.errors import GeometryError
from blockwise_predict.geometry.grid import format_lengths
from blockwise_predict.plan.model import Plan

Unit = Literal["nm", "voxel"]


@dataclass(frozen=True)
class TaskGrid:
    """The voxels of a plan's output grid in the scheduler's integer coordinates."""

    voxel_size: tuple[int, ...]
    offset: tuple[int, ...]

    def roi(self, voxels: Roi) -> Roi:
        """A ROI of output voxels in the scheduler's coordinates."""
        size = Coordinate(self.voxel_size)
        return Roi(voxels.begin * size + Coordinate(self.offset), voxels.shape * size)

    def voxel(self, begin: Sequence[int]) -> Coordinate:
        """The output voxel that begins at a position in the scheduler's coordinates."""
        return (Coordinate(begin) - Coordinate(self.offset)) / Coordinate(self.voxel_size)


@dataclass(frozen=True)
class TaskRois:
    """The ROIs of a task, in the scheduler's coordinates.

    `total` is everything the task reads; `read` and `write` are one block with and without its
    context, the block beginning at 0.
    """

    total: Roi
    read: Roi
    write: Roi


def task_grid(plan: Plan, unit: Unit) -> TaskGrid:
    """The grid of a plan's voxels in `unit`; `voxel` counts from where the input array begins.

    Raises GeometryError if voxel size or offset are not integers in that unit, or if an axis is
    time.
    """
    grid = plan.output_grid
    if unit == "voxel":
        return TaskGrid((1,) * grid.dims, (0,) * grid.dims)
    if grid.has_time:
        raise GeometryError(
            f"{plan.output.path} has a time axis, which has no place in nm. Use unit='voxel', and "
            "have the other tasks of the pipeline count in the output's voxels and frames, too. A "
            "pipeline of volara cannot: use predict run."
        )
    if any(length.denominator != 1 for length in (*grid.voxel_size, *grid.offset)):
        raise GeometryError(
            f"{plan.output.path} has voxels of {format_lengths(grid.voxel_size)} nm at offset "
            f"{format_lengths(grid.offset)}: daisy counts in integers. Use unit='voxel', and have "
            "the other tasks of the pipeline count in the output's voxels, too."
        )
    sizes, offsets = (tuple(map(int, lengths)) for lengths in (grid.voxel_size, grid.offset))
    return TaskGrid(sizes, offsets)


def task_rois(plan: Plan, grid: TaskGrid) -> TaskRois:
    """The ROIs of a plan's task.

    Blocks begin where the output's ROI begins; the last ones reach beyond its end.
    """
    block = Roi((0,) * len(plan.block_shape), plan.block_shape)
    contexts = [_context(plan, axis) for axis in range(block.dims)]
    low = Coordinate(low for low, _ in contexts)
    high = Coordinate(high for _, high in contexts)
    size = Coordinate(grid.voxel_size)
    return TaskRois(
        total=grid.roi(plan.output.roi.grow(low, high)),
        read=Roi(block.begin * size, block.shape * size).grow(low * size, high * size),
        write=Roi(block.begin * size, block.shape * size),
    )


def _context(plan: Plan, axis: int) -> tuple[int, int]:
    """The largest context of any block along an axis, before and after it, in output voxels.

    A block's context depends on where it lies on the lattice; upstream tasks must have written all
    of it. Of an ensemble it is that of the network with the largest one.
    """
    scale, margin = plan.scale[axis], _margin(plan, axis)
    low = high = 0
    for each in plan.each:
        lattice = each.lattice.axes[axis]
        for place in range(plan.blocks_per_axis[axis]):
            begin, end = plan.block_range(axis, place)
            read_begin, read_end = lattice.input_range(begin - margin, end + margin)
            low = max(low, begin - read_begin * scale)
            high = max(high, read_end * scale - (begin + plan.block_shape[axis]))
    return low, high


def _margin(plan: Plan, axis: int) -> int:
    """Output voxels around a block that its transformed copies may need, at most.

    Affinities are read from where their offsets point to, and a flipped pass may lie one point of
    the lattice further.
    """
    if plan.config.augment == "none":
        return 0
    dims = plan.network.dims
    offsets = [offset_of(name, dims) or (0,) for name in plan.network.channel_names]
    return max(abs(step) for offset in offsets for step in offset) + plan.lattice.axes[axis].step
