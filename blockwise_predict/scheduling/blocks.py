"""The blocks of a run that have not been handed out yet: each worker gets neighbouring ones.

A worker keeps the decoded chunks that its next blocks need as well. So daisy's scheduler hands out
columns, to one worker each, which gets the blocks of its column one after the other. A worker that
finds no column left takes over the second half of the longest rest of another's.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import daisy.v2 as daisy
import numpy as np
from daisy.logging import set_log_basedir
from funlib.geometry import Roi
from numpy.typing import NDArray

from blockwise_predict.geometry.order import BlockOrder, Column, num_blocks, parts_of_columns

TASK_ID = "predict"
# Number of blocks of a column that are looked at together. While none of them is left to do, it
# doubles up to the maximum, which bounds the memory.
BATCH, MAX_BATCH = 64, 1 << 18

Place = tuple[int, ...]


class DaisyBlockSource:
    """Blocks that have not been handed out yet, in an order, except those in `skip_mask`.

    `skip_mask` is u1, one value per block in C order. As many `workers` are expected; there may be
    more or fewer. To be closed in the thread that made it.
    """

    def __init__(self, order: BlockOrder, skip_mask: NDArray[np.uint8], workers: int) -> None:
        # daisy would otherwise keep logs, and look for markers, in the current directory.
        set_log_basedir(None)
        self._order = order
        self._skip = skip_mask.reshape(-1)
        self._unfinished = _count_by_column(order, skip_mask)
        self._left = int(self._unfinished.sum())
        self._scheduler = daisy.Scheduler(_task(order, self._unfinished == 0))
        self._held: dict[Place, Any] = {}
        self._parts = _parts(self._unfinished[self._unfinished > 0].tolist(), workers)
        self._stretches: dict[int, _Stretch] = {}

    @property
    def empty(self) -> bool:
        """Whether all have been handed out."""
        return not self._left

    def next(self, worker: int) -> int | None:
        """The next block for a worker; None when all have been handed out."""
        while self._left:
            stretch = self._stretches.get(worker)
            if stretch is None or not stretch.left:
                stretch = self._stretches[worker] = self._acquire() or self._take_over()
            block = stretch.pop(self._order, self._skip)
            if block is not None:
                self._left -= 1
                return block
        return None

    def finish(self, block: int) -> None:
        """Count a block that is done or given up; release its column to daisy with the last."""
        place = self._order.place_of(self._order.index_of(block))
        self._unfinished[place] -= 1
        if not self._unfinished[place]:
            held = self._held.pop(place)
            held.status = daisy.BlockStatus.SUCCESS
            self._scheduler.release_block(held)

    def close(self) -> None:
        """Release daisy's scheduler."""
        self._held.clear()
        del self._scheduler

    def _acquire(self) -> _Stretch | None:
        """The next column; None if there is none left."""
        held = self._scheduler.acquire_block(TASK_ID)
        if held is None:
            return None
        place = self._order.place_of(held.write_roi.begin)
        self._held[place] = held
        column = self._order.column_at(place)
        return _Stretch(column, 0, num_blocks(column), next(self._parts))

    def _take_over(self) -> _Stretch:
        return max(self._stretches.values(), key=lambda stretch: stretch.left).split()


class _Stretch:
    """The blocks of a column, from its `begin`-th to before its `end`-th, that have not been
    handed out."""

    def __init__(self, column: Column, begin: int, end: int, parts: int) -> None:
        self._column = column
        self._parts = parts
        # Blocks that were found, with their positions, and the first position not looked at.
        self._found: deque[tuple[int, int]] = deque()
        self._unseen = begin
        self._end = end

    @property
    def left(self) -> int:
        """Number of positions that are left."""
        return self._end - (self._found[0][0] if self._found else self._unseen)

    def pop(self, order: BlockOrder, skip: NDArray[np.uint8]) -> int | None:
        """The next block; None if no block is left."""
        batch = BATCH
        while not self._found and self._unseen < self._end:
            stop = min(self._unseen + batch, self._end)
            numbers = order.numbers(self._column, self._unseen, stop)
            places = np.flatnonzero(skip[numbers] == 0)
            positions = (places + self._unseen).tolist()
            self._found.extend(zip(positions, numbers[places].tolist(), strict=True))
            self._unseen = stop
            batch = min(2 * batch, MAX_BATCH)
        return self._found.popleft()[1] if self._found else None

    def split(self) -> _Stretch:
        """Give away half of the parts, from the second on; or the only position that is left."""
        parts = max(2, self._parts)
        given_parts = parts // 2
        middle = self._end - -(-self.left * given_parts // parts)
        given = _Stretch(self._column, middle, self._end, given_parts)
        self._parts = parts - given_parts
        self._end = middle
        self._unseen = min(self._unseen, middle)
        while self._found and self._found[-1][0] >= middle:
            self._found.pop()
        return given


def _count_by_column(order: BlockOrder, skip_mask: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Number of blocks to do in each column."""
    # Along the swept axis first, where each block has but a byte: what it leaves is small.
    to_do = skip_mask.reshape(order.grid) == 0
    counts: NDArray[np.int64] = to_do.sum(axis=order.swept, keepdims=True, dtype=np.int64)
    for axis in order.axes[1:]:
        begins = range(0, order.grid[axis], order.column[axis])
        counts = np.add.reduceat(counts, begins, axis=axis)
    return counts


def _parts(sizes: Sequence[int], workers: int) -> Iterator[int]:
    """In how many parts each column is divided among workers, in the order of columns.

    Each worker does as many whole columns as the others; the rest are shared by all.
    """
    whole = len(sizes) - len(sizes) % workers
    return itertools.chain(itertools.repeat(1, whole), parts_of_columns(sizes[whole:], workers))


def _task(order: BlockOrder, skip_mask: NDArray[np.bool_]) -> Any:
    """daisy's view of the columns, in units of blocks."""
    column = Roi((0,) * len(order.grid), order.column)
    return daisy.Task(
        TASK_ID,
        total_roi=Roi((0,) * len(order.grid), order.grid),
        read_roi=column,
        write_roi=column,
        process_function=None,
        read_write_conflict=False,
        # "valid" would silently drop the last column along an axis if it has fewer blocks.
        fit="overhang",
        max_workers=1,
        max_retries=0,
        # Progress is tracked in the ledger, which is tied to the run's identity.
        tracking_path=False,
        skip_mask=skip_mask,
    )
