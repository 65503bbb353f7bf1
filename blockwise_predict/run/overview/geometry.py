"""Warnings of blocks that are mostly halo, and of a ROI that is mostly left out."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np
from funlib.geometry import Coordinate, Roi
from numpy.typing import NDArray

from blockwise_predict.plan.model import Plan
from blockwise_predict.plan.selection import Selection

# A mask that leaves less of the ROI than this may be misplaced; one that leaves less than this,
# within a box of at most that share of the ROI, is better met by a smaller ROI.
SPARSE, BOXED = 0.05, 0.5


def inner_block(plan: Plan) -> Roi:
    """A block that is not cropped, if there is one, in output voxels."""
    return plan.block(plan.output.roi.begin)


def read_shape(plan: Plan) -> tuple[int, ...]:
    """The input voxels that such a block reads, beyond the volume's border as well."""
    return tuple(plan.lattice.read_roi(inner_block(plan)).shape)


def halo_warnings(plan: Plan) -> Iterator[str]:
    """Warn of blocks that are smaller than their context along an axis that they divide."""
    scale, block = plan.scale, inner_block(plan).shape
    own = [-(-n // s) for n, s in zip(block, scale, strict=True)]
    read = read_shape(plan)
    short = [
        axis
        for axis, (n, r) in enumerate(zip(own, read, strict=True))
        if r - n > n and plan.blocks_per_axis[axis] > 1
    ]
    if short:
        names = ", ".join(plan.input.axis_names[axis] for axis in short)
        yield (
            f"blocks of {_times(block)} voxels are smaller than their context along {names}: "
            f"{_times(read)} input voxels are read for each, {prod(read) / prod(own):.3g} times "
            "its own, so most of the work is halo. Larger blocks have less: give more --memory, "
            "or a larger --block-shape."
        )


def mask_warnings(plan: Plan, selection: Selection) -> Iterator[str]:
    """Warn of a ROI that is mostly outside the mask."""
    computed, masked_out = int(selection.computed.sum()), int(selection.masked_out.sum())
    share = computed / max(1, computed + masked_out)
    if plan.config.mask is None or not computed or share >= BOXED:
        return
    box = blocks_around(plan, selection.computed)
    smaller = plan.config.rois is None and box.size <= BOXED * plan.output.roi.size
    if not smaller and share >= SPARSE:
        return
    advice = ""
    if smaller:
        bounds = plan.output_grid.world_bounds(box)
        advice = (
            f" These lie in {bounds}, {box.size / plan.output.roi.size:.0%} of the ROI: with that "
            "as --roi, the output is smaller."
        )
    yield (
        f"the ROI is mostly outside the mask: {share:.1%} of its blocks are computed. If that is "
        f"not what you expect, compare both in predict plan --picture.{advice}"
    )


def blocks_around(plan: Plan, chosen: NDArray[np.bool_]) -> Roi:
    """The smallest ROI, in output voxels, around the blocks that are `chosen` on their grid."""
    begin, end = [], []
    for axis in range(chosen.ndim):
        others = tuple(other for other in range(chosen.ndim) if other != axis)
        places = np.flatnonzero(chosen.any(axis=others))
        begin.append(plan.block_range(axis, int(places[0]))[0])
        end.append(plan.block_range(axis, int(places[-1]))[1])
    return Roi(begin, Coordinate(end) - Coordinate(begin))


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
