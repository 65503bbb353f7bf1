"""How the blocks of a plan share input chunks, and the order in which a worker decodes each once.

Blocks are divided into columns (`geometry.order`). A worker keeps those decoded chunks that later
blocks of the same column read as well. In a column that is swept along z these are, in chunks:

- what a layer shares with the next one: its overlap along z, times the column's extents in y and x;
- what a row shares with the next one: its overlap along y, times a block's extent in z, and the
  column's in x;
- what a block shares with the next one: its overlap along x, times the block's extents in z and y.

The columns are those for which the fewest chunks are decoded, among those of which the kept chunks
and a block fit into the cache. Chunks between two columns are decoded for both, and so are those
between the parts of a column that several workers share, since there are more of them than columns.
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
from blockwise_predict.io import gaps_need_reading
from blockwise_predict.plan.axis_costs import read_chunks
from blockwise_predict.plan.model import Plan

# Number of blocks along an axis that are looked at for the largest overlap.
SAMPLED_PLACES = 32
# Lengths of columns to choose from: up to the first, or the grid in up to so many equal parts. Only
# the last axes are divided, since there are too many choices otherwise.
SMALL_COLUMN, MAX_PARTS, DIVIDED_AXES = 12, 24, 3

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
    """The order of a plan's blocks, and what a worker keeps of the decoded chunks (bytes).

    `kept_bytes` are for chunks that later blocks need; 0 if not enough of them fit. `recent_bytes`
    are for those read last, in the storage's own cache.
    """

    plan: Plan
    order: BlockOrder
    kept_bytes: int
    recent_bytes: int

    def needed_after(self, block: Roi) -> Callable[[Chunk], bool]:
        """Tells of a chunk whether later blocks of the same column read it, too."""
        index = self.plan.block_index(block.begin)
        places_of = self.order.column_at(self.order.place_of(index))
        column, now, later = [], [], []
        for axis, (place, places) in enumerate(zip(index, places_of, strict=True)):
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
    """How a plan's blocks are read, for its workers and the size of their caches."""
    grid = plan.blocks_per_axis
    cache = min(each.tiling.cache_bytes for each in plan.each)
    in_c_order = Reading(plan, BlockOrder.in_c_order(grid), kept_bytes=0, recent_bytes=cache)
    if plan.input.resampled_from is not None:
        # The chunks that can be kept, or be damaged, are those of the stored array.
        return in_c_order
    axes = [_axis_chunks(plan, axis) for axis in range(len(grid))]
    chunk_bytes = prod(plan.input.chunk_shape) * voxel_bytes(plan)
    recent = 0
    if gaps_need_reading(plan.input.format, plan.input.path):
        # A block's chunks are read twice: the second time from the cache, which counts some bytes
        # more than theirs.
        recent = (prod(chunks.of_block for chunks in axes) + 1) * chunk_bytes
    room = (cache - recent) // chunk_bytes
    order = best_order(grid, axes, room, plan.config.planned_workers)
    if order is None:
        return in_c_order
    return Reading(plan, order, kept_bytes=cache - recent, recent_bytes=recent)


def best_order(
    grid: tuple[int, ...], axes: Sequence[AxisChunks], room: int, workers: int
) -> BlockOrder | None:
    """The order for which `workers` decode the fewest chunks with `room` for chunks in memory.

    None if there is not enough even for columns of single blocks.
    """
    fitting = [order for order in _orders(grid) if kept_chunks(axes, order) <= room]

    def cost(order: BlockOrder) -> tuple[float, int]:
        return _decoded(axes, order, workers), kept_chunks(axes, order)

    return min(fitting, key=cost, default=None)


def kept_chunks(axes: Sequence[AxisChunks], order: BlockOrder) -> int:
    """The most chunks in memory: those of a block, and those kept for later ones."""
    blocks = [axes[axis].of_block for axis in order.axes]
    columns = [axes[axis].of_column(order.column[axis]) for axis in order.axes]
    kept = prod(blocks)
    for place, axis in enumerate(order.axes):
        if order.column[axis] > 1:
            kept += prod(blocks[:place]) * axes[axis].shared * prod(columns[place + 1 :])
    return kept


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


def _decoded(axes: Sequence[AxisChunks], order: BlockOrder, workers: int) -> float:
    """About the number of chunks that are decoded."""
    in_columns = prod(
        chunks.total + (count - 1) * chunks.shared
        for chunks, count in zip(axes, order.columns, strict=True)
    )
    if workers == 1:
        return in_columns
    layer = prod(axes[axis].of_column(order.column[axis]) for axis in order.axes[1:])
    return in_columns + _num_cuts(order, workers) * axes[order.swept].shared * layer


def _num_cuts(order: BlockOrder, workers: int) -> float:
    """About the number of times that a part of a column goes to another worker."""
    columns = prod(order.columns)
    rest = columns % workers
    # Whoever has a smaller column will take over a part of a larger one. Half a cut for each
    # worker, if all columns but one were small, is what suits the simulation (benchmarks/reading).
    unevenness = 1 - prod(order.grid) / (columns * prod(order.column))
    return (workers - rest if rest else 0) + workers * unevenness / 2


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
