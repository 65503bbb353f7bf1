"""A plan as one task of a daisy pipeline, beside tasks that others write."""

from __future__ import annotations

import shlex
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import daisy
from funlib.geometry import Coordinate, Roi

from blockwise_predict.errors import GeometryError
from blockwise_predict.geometry.grid import format_lengths
from blockwise_predict.plan.model import Plan
from blockwise_predict.run.daisy_worker import work
from blockwise_predict.run.external import open_run
from blockwise_predict.run.planned import PlannedRun

Unit = Literal["nm", "voxel"]


@dataclass(frozen=True)
class TaskGrid:
    """The integers that another scheduler counts in, for the voxels of a plan's output grid."""

    voxel_size: tuple[int, ...]
    offset: tuple[int, ...]

    def roi(self, voxels: Roi) -> Roi:
        """A ROI of the output grid as the scheduler counts it."""
        size = Coordinate(self.voxel_size)
        return Roi(voxels.begin * size + Coordinate(self.offset), voxels.shape * size)

    def voxel(self, begin: Sequence[int]) -> Coordinate:
        """The output voxel that begins at a position of the scheduler's."""
        return (Coordinate(begin) - Coordinate(self.offset)) / Coordinate(self.voxel_size)


@dataclass(frozen=True)
class TaskRois:
    """What a task is made of, in the scheduler's integers: all that it reads, and what its first
    block reads and writes, from 0."""

    total: Roi
    read: Roi
    write: Roi


def task_grid(plan: Plan, unit: Unit) -> TaskGrid:
    """The grid of a plan's blocks in `unit`. Raises GeometryError if that is no grid of integers.

    In voxels, they are those of the output, counted from where the input array begins.
    """
    grid = plan.output_grid
    if unit == "voxel":
        return TaskGrid((1,) * grid.dims, (0,) * grid.dims)
    if any(length.denominator != 1 for length in (*grid.voxel_size, *grid.offset)):
        raise GeometryError(
            f"{plan.output.path} has voxels of {format_lengths(grid.voxel_size)} nm at offset "
            f"{format_lengths(grid.offset)}: daisy counts in integers. Use unit='voxel', and have "
            "the other tasks of the pipeline count in the output's voxels, too."
        )
    sizes, offsets = (tuple(map(int, lengths)) for lengths in (grid.voxel_size, grid.offset))
    return TaskGrid(sizes, offsets)


def task_rois(plan: Plan, grid: TaskGrid) -> TaskRois:
    """The ROIs of a plan's task: blocks begin where the output's ROI does, and the last ones reach
    beyond it."""
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
    """Output voxels that any block reads before its begin, and after its end, along an axis.

    That depends on where blocks lie on the lattice; tasks before this one must have written all.
    """
    lattice, scale = plan.lattice.axes[axis], plan.scale[axis]
    low = high = 0
    for place in range(plan.blocks_per_axis[axis]):
        begin, end = plan.block_range(axis, place)
        read_begin, read_end = lattice.input_range(begin, end)
        low = max(low, begin - read_begin * scale)
        high = max(high, read_end * scale - (begin + plan.block_shape[axis]))
    return low, high


def daisy_task(
    plan: PlannedRun,
    *,
    upstream_tasks: Sequence[Any] = (),
    task_id: str = "predict",
    unit: Unit = "nm",
) -> Any:
    """The `daisy.Task` of a plan, for `daisy.run_blockwise`, alone or with other tasks.

    The run begins or goes on here: its records and its output are made, this process holds its lock
    until it ends, and blocks that are done are left out. `upstream_tasks` write the plan's input.
    `task_id` must be unique in the pipeline. ROIs are in nm, or in output voxels from the input
    array's begin; `upstream_tasks`, and tasks that depend on this one, must count in the same unit.

    The plan's `workers`, `slots`, `device`, `retries` and `block_timeout` hold; daisy starts the
    workers, on this machine.

    Raises GeometryError for voxel sizes that are no integers in `unit`, ConfigError for a fleet
    other than local, and RunStateError if what is recorded is not this run.
    """
    decided = plan.plan
    if upstream_tasks:
        # What the input holds now is not what will be predicted, and is not to be compared with it.
        source = decided.input.model_copy(update={"sample_sha256": {}})
        decided = decided.model_copy(update={"input": source})
    grid = task_grid(decided, unit)
    rois = task_rois(decided, grid)
    run, config = replace(plan, plan=decided), decided.config
    worker_pass, skip = open_run(run, f"daisy_task in {shlex.join(sys.argv)}")
    with warnings.catch_warnings():
        # daisy prefers `upstream + task`, which a function that returns one task cannot use.
        warnings.simplefilter("ignore", DeprecationWarning)
        return daisy.Task(
            task_id,
            total_roi=rois.total,
            read_roi=rois.read,
            write_roi=rois.write,
            process_function=partial(work, worker_pass, grid),
            read_write_conflict=False,
            # "valid" would silently leave out what a whole block does not fit into.
            fit="overhang",
            max_workers=config.planned_workers,
            max_retries=config.retries,
            timeout=config.block_timeout,
            # daisy's record of blocks knows neither model nor input. Ours does, and says what to
            # skip.
            tracking_path=False,
            skip_mask=skip,
            upstream_tasks=list(upstream_tasks),
        )
