"""Which blocks of a plan are computed, and which are left out before any worker starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from funlib.geometry import Coordinate, Roi
from numpy.typing import NDArray

from blockwise_predict.errors import ArrayError
from blockwise_predict.geometry.grid import RequestedRoi, format_bounds
from blockwise_predict.io import BlockSource, open_input
from blockwise_predict.plan.masks import Ranges, foreground_blocks, touched_voxels
from blockwise_predict.plan.model import Plan


@dataclass(frozen=True)
class Selection:
    """A choice of blocks, on the grid of a plan's blocks.

    `outside` are the blocks that no ROI touches; `masked_out` are those of the others without a
    foreground voxel of the mask. `notes` and `warnings` are for the user.
    """

    outside: NDArray[np.bool_]
    masked_out: NDArray[np.bool_]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def computed(self) -> NDArray[np.bool_]:
        """The blocks that are computed."""
        return ~(self.outside | self.masked_out)


def select_blocks(plan: Plan) -> Selection | None:
    """The blocks that a plan's options choose, those in both ROIs and mask; None if these are all.

    Raises ArrayError if the mask cannot be opened or read, or if its axes do not fit.
    """
    if plan.config.mask is None and plan.config.rois is None:
        return None
    warnings: list[str] = []
    notes: list[str] = []
    outside = masked_out = np.zeros(plan.blocks_per_axis, bool)
    if plan.config.rois is not None:
        outside = ~_in_rois(plan, plan.config.rois, warnings)
    if plan.config.mask is not None:
        mask = _open_mask(plan.config.mask)
        notes += [f"mask {mask.path}: {note}" for note in mask.placement.notes]
        masked_out = ~_in_mask(plan, mask) & ~outside
        if (outside | masked_out).all():
            warnings.append(_no_foreground(plan, mask))
    return Selection(outside, masked_out, tuple(notes), tuple(warnings))


def _in_rois(plan: Plan, rois: Sequence[RequestedRoi], warnings: list[str]) -> NDArray[np.bool_]:
    """The blocks that a ROI touches."""
    found = np.zeros(plan.blocks_per_axis, bool)
    missed = []
    for requested in rois:
        roi = plan.output_grid.voxel_roi(requested.bounds, plan.output.roi)[0]
        if min(roi.shape) <= 0 or not roi.intersects(plan.output.roi):
            missed.append(requested)
            continue
        inside = roi.intersect(plan.output.roi)
        begin, block = inside.begin - plan.output.roi.begin, Coordinate(plan.block_shape)
        # Rounded down, and up.
        first, end = begin // block, -(-(begin + inside.shape) // block)
        found[Roi(first, end - first).to_slices()] = True
    if missed:
        spans = plan.output_grid.world_bounds(plan.output.roi)
        warnings.append(
            f"{len(missed)} of {len(rois)} ROIs miss the output, which spans {spans} "
            f"{plan.output_grid.units}; the first of them is {missed[0]}."
        )
    return found


def _open_mask(path: str) -> BlockSource:
    try:
        return open_input(path, called=("voxel_size in its attributes", "offset there"))
    except ArrayError as error:
        raise ArrayError(f"--mask: {error}") from None


def _in_mask(plan: Plan, mask: BlockSource) -> NDArray[np.bool_]:
    """The blocks with a foreground voxel. A mask without time is that of every frame."""
    grid, own = plan.output_grid, mask.placement.grid
    same_units = own.time_unit in (grid.time_unit, None)
    frames = grid.has_time and not own.has_time
    if not same_units or own.dims + frames != grid.dims:
        raise ArrayError(
            f"--mask {mask.path} has the axes {', '.join(mask.placement.axis_names)} in "
            f"{own.units}, which are not those of {plan.input.path}: "
            f"{', '.join(plan.input.axis_names)} in {grid.units}."
        )
    ranges = [_touched(plan, axis + frames, mask, axis) for axis in range(own.dims)]
    found = foreground_blocks(mask, ranges)
    return np.broadcast_to(found, plan.blocks_per_axis)


def _touched(plan: Plan, axis: int, mask: BlockSource, mask_axis: int) -> Ranges:
    """The mask's voxels that the blocks at each position along an axis touch."""
    grid = plan.output_grid
    size, offset = grid.voxel_size[axis], grid.offset[axis]
    voxels = (plan.block_range(axis, place) for place in range(plan.blocks_per_axis[axis]))
    edges = [(offset + begin * size, offset + end * size) for begin, end in voxels]
    return touched_voxels(edges, mask.placement.grid, mask_axis, mask.shape[mask_axis])


def _no_foreground(plan: Plan, mask: BlockSource) -> str:
    own = mask.placement.grid
    spans = format_bounds(own.offset, own.world(mask.shape))
    return (
        f"--mask {mask.path} has no foreground in {plan.output_grid.world_bounds(plan.output.roi)} "
        f"{plan.output_grid.units}, so nothing is predicted. The mask spans {spans} {own.units}."
    )
