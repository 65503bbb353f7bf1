"""The costs of some of a plan's blocks, counted exactly.

A block's cost along an axis depends on its position along that axis only. So the costs of all
chosen blocks are the sum, over the grid, of products of one number per axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from blockwise_predict.checkpoint import TrainedModel
from blockwise_predict.plan.axis_costs import pass_sizes, read_chunks
from blockwise_predict.plan.decoding import shared_by_workers
from blockwise_predict.plan.estimate import Estimate, pass_flops
from blockwise_predict.plan.model import Plan
from blockwise_predict.plan.reading import reading_of

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class _Axis:
    """Costs along one axis, for each position of blocks.

    `passes` are numbers of passes by input size, `voxels` are output voxels. `chunks` and `reads`
    are the input chunks and voxels that are read, begin and end, within the volume.
    """

    passes: dict[int, Numbers]
    voxels: Numbers
    chunks: Numbers
    reads: Numbers

    @property
    def num_chunks(self) -> Numbers:
        """Number of chunks that are read."""
        return self.chunks[:, 1] - self.chunks[:, 0]

    @property
    def num_shared(self) -> Numbers:
        """Number of those that are read for the position before, too."""
        shared = np.zeros(len(self.chunks), np.int64)
        shared[1:] = np.minimum(self.chunks[1:, 1], self.chunks[:-1, 1]) - self.chunks[1:, 0]
        return shared.clip(0)


def estimate_selected(plan: Plan, model: TrainedModel, computed: NDArray[np.bool_]) -> Estimate:
    """The costs of the blocks that are `computed`, on the grid of blocks."""
    if not computed.any():
        return Estimate(0, 0, 1.0, 0, 0, 1.0, exact=True)
    axes = [_axis(plan, axis) for axis in range(computed.ndim)]
    passes = _sum(computed, [sum(each.passes.values(), start=0 * each.voxels) for each in axes])
    flops = _flops(model, computed.astype(np.int64), axes, ())
    voxels = _sum(computed, [each.voxels for each in axes])
    decoded = _decoded_chunks(plan, computed, axes)
    needed = _covered(computed, [each.reads for each in axes], computed.shape)
    return Estimate(
        passes=passes * plan.copies,
        flops=flops * plan.copies,
        halo_overhead=flops / (voxels * model.flops_without_halo),
        bytes_in=decoded * plan.input.chunk_bytes,
        bytes_out=voxels * plan.output.voxel_bytes,
        read_amplification=decoded * prod(plan.input.chunk_shape) / needed,
        exact=True,
    )


def _axis(plan: Plan, axis: int) -> _Axis:
    ranges = [plan.block_range(axis, place) for place in range(plan.blocks_per_axis[axis])]
    passes: dict[int, Numbers] = {}
    for place, (begin, end) in enumerate(ranges):
        for size, number in pass_sizes(plan, axis, begin, end):
            passes.setdefault(size, np.zeros(len(ranges), np.int64))[place] += number
    chunks = [read_chunks(plan, axis, begin, end) for begin, end in ranges]
    reads = np.array([plan.lattice.axes[axis].input_range(*each) for each in ranges])
    return _Axis(
        passes=passes,
        voxels=np.array([end - begin for begin, end in ranges]),
        chunks=np.array([(each.start, each.stop) for each in chunks]),
        reads=reads.clip(0, plan.input.shape[axis]),
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
    reading = reading_of(plan)
    if reading.kept_bytes:
        decoded = _covered(computed, [each.chunks for each in axes], reading.order.column)
        # As if blocks were left out evenly.
        return decoded + round(shared_by_workers(reading) * float(computed.mean()))
    decoded = _sum(computed, [each.num_chunks for each in axes])
    if reading.recent_bytes:
        # A block that follows its neighbour along the last axis finds chunks in the cache.
        follows = np.zeros_like(computed)
        follows[..., 1:] = computed[..., 1:] & computed[..., :-1]
        *across, last = axes
        decoded -= _sum(follows, [*(each.num_chunks for each in across), last.num_shared])
    return decoded


def _covered(computed: NDArray[np.bool_], reads: Sequence[Numbers], column: tuple[int, ...]) -> int:
    """What the chosen blocks read, in each column once: its number of chunks or voxels.

    `reads` are where blocks begin and end to read, for each position along each axis.
    """
    covered, lengths = computed, []
    for axis, (ranges, edge) in enumerate(zip(reads, column, strict=True)):
        # Between the cuts in a column, all is read for the same blocks.
        sizes: list[int] = []
        places = np.zeros_like(ranges)
        for begin in range(0, len(ranges), edge):
            part = slice(begin, begin + edge)
            cuts = np.unique(ranges[part])
            places[part] = len(sizes) + np.searchsorted(cuts, ranges[part])
            sizes += np.diff(cuts).tolist()
        along = np.moveaxis(covered, axis, 0)
        cells = np.zeros((len(sizes), *along.shape[1:]), bool)
        for row, (first, end) in zip(along, places, strict=True):
            cells[first:end] |= row
        covered = np.moveaxis(cells, 0, axis)
        lengths.append(np.array(sizes))
    return _sum(covered, lengths)
