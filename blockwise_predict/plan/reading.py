"""How the blocks of a plan share input chunks, and the order in which a worker decodes each once.

Blocks are divided into columns (`geometry.order`). A worker keeps those decoded chunks that later
blocks of the same column read as well. In a column that is swept along z these are, in chunks:

- what a layer shares with the next one: its overlap along z, times the column's extents in y and x;
- what a row shares with the next one: its overlap along y, times a block's extent in z, and the
  column's in x;
- what a block shares with the next one: its overlap along x, times the block's extents in z and y.

The columns are the ones that need the fewest chunks, among those of which the kept chunks and a
block fit into the cache. Chunks between two columns are decoded for both.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, prod

import numpy as np
from funlib.geometry import Roi

from blockwise_predict.geometry.order import BlockOrder
from blockwise_predict.plan.axis_costs import read_chunks
from blockwise_predict.plan.model import Plan

# Number of blocks along an axis that are looked at for the largest overlap.
SAMPLED_PLACES = 32
# Lengths of columns to choose from: up to the first, or the grid in up to so many equal parts. Only
# the last axes are divided, since there are too many choices otherwise.
SMALL_COLUMN, MAX_PARTS, DIVIDED_AXES = 12, 24, 3
# Number of columns along an axis that are counted one by one; of more, the first stand for all.
MAX_SAMPLE = 100

Chunk = tuple[int, ...]


@dataclass(frozen=True)
class AxisChunks:
    """Chunks along an axis.

    total: those that any block reads.
    of_block: the most that one block reads.
    shared: the most that two neighbours share.
    step: the length of a block, in chunks.
    """

    total: int
    of_block: int
    shared: int
    step: Fraction

    def of_column(self, blocks: int) -> int:
        """The most that so many blocks in a row read."""
        return min(self.total, self.of_block + ceil((blocks - 1) * self.step))


@dataclass(frozen=True)
class Reading:
    """The order of a plan's blocks, and whether decoded chunks are kept for later ones.

    If not, a worker's cache holds those that were read last.
    """

    plan: Plan
    order: BlockOrder
    keeps_chunks: bool

    def needed_after(self, block: Roi) -> Callable[[Chunk], bool]:
        """Tells of a chunk whether later blocks of the same column read it, too."""
        index = self.plan.block_index(block.begin)
        column, now, later = [], [], []
        for axis, (place, places) in enumerate(
            zip(index, self.order.column_of(index), strict=True)
        ):
            first, last = (chunks_at(self.plan, axis, end) for end in (places[0], places[-1]))
            column.append(range(first.start, last.stop))
            now.append(chunks_at(self.plan, axis, place).start)
            is_last = place == places[-1]
            later.append(last.stop if is_last else chunks_at(self.plan, axis, place + 1).start)

        def needed(chunk: Chunk) -> bool:
            if not all(c in inside for c, inside in zip(chunk, column, strict=True)):
                return False
            for axis in self.order.axes:
                if chunk[axis] >= later[axis]:
                    return True
                if chunk[axis] < now[axis]:
                    return False
            return False

        return needed


def reading_of(plan: Plan) -> Reading:
    """The order of a plan's blocks, for the size of its workers' caches."""
    grid = plan.blocks_per_axis
    room = plan.tiling.cache_bytes // (prod(plan.input.chunk_shape) * voxel_bytes(plan))
    order = best_order(grid, [_axis_chunks(plan, axis) for axis in range(len(grid))], room)
    if order is None:
        return Reading(plan, BlockOrder.in_c_order(grid), keeps_chunks=False)
    return Reading(plan, order, keeps_chunks=True)


def best_order(grid: tuple[int, ...], axes: Sequence[AxisChunks], room: int) -> BlockOrder | None:
    """The order for which the fewest chunks are decoded with `room` for chunks in memory.

    None if there is not enough even for columns of single blocks.
    """
    found = [
        (_decoded(axes, order), kept, order)
        for order in _orders(grid)
        if (kept := kept_chunks(axes, order)) <= room
    ]
    return min(found, key=lambda choice: choice[:2])[2] if found else None


def kept_chunks(axes: Sequence[AxisChunks], order: BlockOrder) -> int:
    """The most chunks in memory: those of a block, and those kept for later ones."""
    blocks = [axes[axis].of_block for axis in order.axes]
    columns = [axes[axis].of_column(order.column[axis]) for axis in order.axes]
    kept = prod(blocks)
    for place, axis in enumerate(order.axes):
        if order.column[axis] > 1:
            kept += prod(blocks[:place]) * axes[axis].shared * prod(columns[place + 1 :])
    return kept


def decoded_in_columns(reading: Reading, distinct: Sequence[int], workers: int) -> int:
    """Number of chunks that workers decode, each of which has an equal part of the order.

    `distinct` are the numbers of chunks along each axis.
    """
    plan, order = reading.plan, reading.order
    by_axis = [
        count + _shared_by_columns(plan, axis, order.column[axis])
        for axis, count in enumerate(distinct)
    ]
    begins = {plan.num_blocks * number // workers for number in range(1, workers)} - {0}
    return prod(by_axis) + sum(_shared_at(reading, begin) for begin in begins)


def _shared_by_columns(plan: Plan, axis: int, edge: int) -> int:
    """Number of chunks along an axis that columns share with the one before, in total."""
    begins = range(edge, plan.blocks_per_axis[axis], edge)
    sampled = begins[:MAX_SAMPLE]
    shared = sum(_shared(plan, axis, place) for place in sampled)
    return shared * len(begins) // max(1, len(sampled))


def _shared_at(reading: Reading, position: int) -> int:
    """About the number of chunks that the blocks before a position of the order share, in the same
    column, with those from there on."""
    plan, order = reading.plan, reading.order
    (number,) = order.numbers(position, position + 1)
    index = tuple(int(place) for place in np.unravel_index(number, order.grid))
    column = order.column_of(index)
    area, done = 1, 0
    for axis in order.axes[1:]:
        places = column[axis]
        first, last = (chunks_at(plan, axis, place) for place in (places[0], places[-1]))
        area *= last.stop - first.start
        done = done * len(places) + index[axis] - places[0]
    # In the layer of the block, some blocks are before the position.
    share = done / prod(len(column[axis]) for axis in order.axes[1:])
    layer, layers = index[order.swept], order.grid[order.swept]
    below = _shared(plan, order.swept, layer) if layer else 0
    above = _shared(plan, order.swept, layer + 1) if layer + 1 < layers else 0
    return round(area * ((1 - share) * below + share * above))


def _shared(plan: Plan, axis: int, place: int) -> int:
    """Number of chunks along an axis that the blocks at a position share with those before."""
    return max(0, chunks_at(plan, axis, place - 1).stop - chunks_at(plan, axis, place).start)


def _orders(grid: tuple[int, ...]) -> Iterator[BlockOrder]:
    fixed = max(0, len(grid) - DIVIDED_AXES)
    lengths = [[1, n] if axis < fixed else _lengths(n) for axis, n in enumerate(grid)]
    for swept in range(fixed, len(grid)):
        choices = [[grid[a]] if a == swept else lengths[a] for a in range(len(grid))]
        for column in itertools.product(*choices):
            yield BlockOrder(grid, swept, column)


def _lengths(count: int) -> list[int]:
    parts = {-(-count // number) for number in range(1, MAX_PARTS + 1)}
    return sorted(parts | set(range(1, min(count, SMALL_COLUMN) + 1)))


def _decoded(axes: Sequence[AxisChunks], order: BlockOrder) -> int:
    """About the number of chunks that are decoded."""
    return prod(
        chunks.total + (-(-length // edge) - 1) * chunks.shared
        for chunks, length, edge in zip(axes, order.grid, order.column, strict=True)
    )


def _axis_chunks(plan: Plan, axis: int) -> AxisChunks:
    count = plan.blocks_per_axis[axis]
    read = [chunks_at(plan, axis, place) for place in range(min(count, SAMPLED_PLACES))]
    last = chunks_at(plan, axis, count - 1)
    pairs = list(itertools.pairwise(read))
    return AxisChunks(
        total=last.stop - read[0].start,
        of_block=max(len(chunks) for chunks in (*read, last)),
        shared=max((max(0, a.stop - b.start) for a, b in pairs), default=0),
        step=Fraction(plan.block_shape[axis], plan.scale[axis] * plan.input.chunk_shape[axis]),
    )


def chunks_at(plan: Plan, axis: int, place: int) -> range:
    """Indices of the input chunks that the blocks at a position along an axis read."""
    return read_chunks(plan, axis, *plan.block_range(axis, place))


def voxel_bytes(plan: Plan) -> int:
    """Bytes of an input voxel, channels included."""
    return int(np.dtype(plan.input.dtype).itemsize) * (plan.input.channels or 1)
