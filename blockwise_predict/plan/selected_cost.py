"""The costs of some of a plan's blocks, counted exactly.

A block's cost along an axis depends on its position along that axis only. So the costs of all
chosen blocks are the sum, over the grid, of products of one number per axis.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from blockwise_predict.checkpoint import TrainedModel
from blockwise_predict.plan.axis_costs import pass_sizes, read_chunks
from blockwise_predict.plan.estimate import Estimate, pass_flops
from blockwise_predict.plan.model import Plan

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class _Axis:
    """Costs along one axis, for each position of blocks.

    `passes` are numbers of passes by input size, `chunks` the input chunks that are read, of which
    `kept_chunks` were read for the position before; `voxels` are output voxels, and `begins` to
    `ends` the input voxels read, within the volume.
    """

    passes: dict[int, Numbers]
    chunks: Numbers
    kept_chunks: Numbers
    voxels: Numbers
    begins: Numbers
    ends: Numbers


def estimate_selected(plan: Plan, model: TrainedModel, computed: NDArray[np.bool_]) -> Estimate:
    """The costs of the blocks that are `computed`, on the grid of blocks."""
    if not computed.any():
        return Estimate(0, 0, 1.0, 0, 0, 1.0, exact=True)
    axes = [_axis(plan, axis) for axis in range(computed.ndim)]
    passes = _sum(computed, [sum(each.passes.values(), start=0 * each.chunks) for each in axes])
    flops = _flops(model, computed.astype(np.int64), axes, ())
    voxels = _sum(computed, [each.voxels for each in axes])
    decoded = _decoded_chunks(plan, computed, axes)
    return Estimate(
        passes=passes * plan.copies,
        flops=flops * plan.copies,
        halo_overhead=flops / (voxels * model.flops_without_halo),
        bytes_in=decoded * plan.input.chunk_bytes,
        bytes_out=voxels * plan.output.voxel_bytes,
        read_amplification=decoded * prod(plan.input.chunk_shape) / _read_voxels(computed, axes),
        exact=True,
    )


def _axis(plan: Plan, axis: int) -> _Axis:
    ranges = [plan.block_range(axis, place) for place in range(plan.blocks_per_axis[axis])]
    passes: dict[int, Numbers] = {}
    for place, (begin, end) in enumerate(ranges):
        for size, number in pass_sizes(plan, axis, begin, end):
            passes.setdefault(size, np.zeros(len(ranges), np.int64))[place] += number
    chunks = [read_chunks(plan, axis, begin, end) for begin, end in ranges]
    kept = [
        len(range(now.start, min(now.stop, before.stop)))
        for before, now in itertools.pairwise(chunks)
    ]
    reads = np.array([plan.lattice.axes[axis].input_range(*each) for each in ranges])
    reads = reads.clip(0, plan.input.shape[axis])
    return _Axis(
        passes=passes,
        chunks=np.array([len(each) for each in chunks]),
        kept_chunks=np.array([0, *kept]),
        voxels=np.array([end - begin for begin, end in ranges]),
        begins=reads[:, 0],
        ends=reads[:, 1],
    )


def _sum(blocks: NDArray[np.bool_], factors: Sequence[Numbers]) -> int:
    """Over the chosen blocks, the sum of the products of each axis's number at their position."""
    numbers = blocks.astype(np.int64)
    for factor in reversed(factors):
        numbers = numbers @ factor
    return int(numbers)


def _flops(
    model: TrainedModel, blocks: Numbers, axes: Sequence[_Axis], sizes: tuple[int, ...]
) -> int:
    """Operations of all passes, whose input `sizes` along the axes behind `axes` are given."""
    if not axes:
        return int(blocks) * pass_flops(model, sizes)
    *others, last = axes
    return sum(
        _flops(model, blocks @ number, others, (size, *sizes))
        for size, number in last.passes.items()
    )


def _decoded_chunks(plan: Plan, computed: NDArray[np.bool_], axes: Sequence[_Axis]) -> int:
    """Number of chunks that are decoded for all blocks."""
    decoded = _sum(computed, [each.chunks for each in axes])
    if plan.config.workers == 1:
        # A block that follows its neighbour along the last axis finds chunks in the cache.
        follows = np.zeros_like(computed)
        follows[..., 1:] = computed[..., 1:] & computed[..., :-1]
        *across, last = axes
        decoded -= _sum(follows, [*(each.chunks for each in across), last.kept_chunks])
    return decoded


def _read_voxels(computed: NDArray[np.bool_], axes: Sequence[_Axis]) -> int:
    """Number of voxels of the input that are read for any block."""
    covered, lengths = computed, []
    for axis, costs in enumerate(axes):
        # Between these cuts, all voxels are read for the same blocks.
        cuts = np.unique([costs.begins, costs.ends])
        lengths.append(np.diff(cuts))
        along = np.moveaxis(covered, axis, 0)
        cells = np.zeros((len(cuts) - 1, *along.shape[1:]), bool)
        places = np.searchsorted(cuts, [costs.begins, costs.ends]).T
        for row, (first, end) in zip(along, places, strict=True):
            cells[first:end] |= row
        covered = np.moveaxis(cells, 0, axis)
    return _sum(covered, lengths)
