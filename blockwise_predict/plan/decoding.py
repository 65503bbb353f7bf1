"""How many chunks the workers of a plan decode, if its blocks are read in columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

from blockwise_predict.geometry.order import BlockOrder, Column, num_blocks, parts_of_columns
from blockwise_predict.plan.model import Plan
from blockwise_predict.plan.reading import Reading, chunks_at

# Number of columns along an axis that are counted one by one; of more, the first stand for all.
MAX_SAMPLE = 100


def decoded_in_columns(reading: Reading, distinct: Sequence[int]) -> int:
    """Number of chunks that are decoded, of those that the blocks read.

    `distinct` are the numbers of chunks along each axis.
    """
    by_axis = [
        count + _shared_by_columns(reading.plan, axis, reading.order.column[axis])
        for axis, count in enumerate(distinct)
    ]
    return prod(by_axis) + shared_by_workers(reading)


def shared_by_workers(reading: Reading) -> int:
    """About the number of chunks that are decoded once more since workers share columns."""
    cuts = _cuts(reading.order, reading.plan.config.planned_workers)
    return sum(_shared_at(reading, column, position) for column, position in cuts)


def _cuts(order: BlockOrder, workers: int) -> Iterator[tuple[Column, int]]:
    """Where the part of one worker ends and that of the next begins, in columns that they share."""
    total = prod(order.columns)
    in_c_order = BlockOrder.in_c_order(order.columns)
    rest = range(total - total % workers, total)
    columns = [order.column_at(in_c_order.index_of(number)) for number in rest]
    sizes = [num_blocks(column) for column in columns]
    for column, size, parts in zip(columns, sizes, parts_of_columns(sizes, workers), strict=True):
        positions = {size * part // parts for part in range(1, parts)} - {0}
        yield from ((column, position) for position in sorted(positions))


def _shared_by_columns(plan: Plan, axis: int, edge: int) -> int:
    """Number of chunks along an axis that columns share with the one before, in total."""
    begins = range(edge, plan.blocks_per_axis[axis], edge)
    sampled = begins[:MAX_SAMPLE]
    shared = sum(_shared(plan, axis, place) for place in sampled)
    return shared * len(begins) // max(1, len(sampled))


def _shared_at(reading: Reading, column: Column, position: int) -> int:
    """About the number of chunks that a column's blocks before a position share with those from
    there on."""
    plan, order = reading.plan, reading.order
    area = 1
    for axis in order.axes[1:]:
        first, last = (chunks_at(plan, axis, column[axis][end]) for end in (0, -1))
        area *= last.stop - first.start
    # In the layer of the block, some blocks are before the position.
    in_layer = prod(len(column[axis]) for axis in order.axes[1:])
    layer, done = divmod(position, in_layer)
    share = done / in_layer
    below = _shared(plan, order.swept, layer) if layer else 0
    above = _shared(plan, order.swept, layer + 1) if layer + 1 < order.grid[order.swept] else 0
    return round(area * ((1 - share) * below + share * above))


def _shared(plan: Plan, axis: int, place: int) -> int:
    """Number of chunks along an axis that the blocks at a position share with those before."""
    return max(0, chunks_at(plan, axis, place - 1).stop - chunks_at(plan, axis, place).start)
