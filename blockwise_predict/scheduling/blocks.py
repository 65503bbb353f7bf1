"""The blocks of a run that have not been handed out yet: each worker gets neighbouring ones.

A worker keeps the decoded chunks that its next blocks need as well, so it is given a stretch of
blocks that follow each other in the order. The first worker's stretch is all of it. A worker that
has none, or has come to its end, takes over the second half of the longest one that is left.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from blockwise_predict.geometry.order import BlockOrder

# Number of positions that are looked at together. While nothing is found, it doubles up to the
# maximum, which bounds the memory.
BATCH, MAX_BATCH = 64, 1 << 18


class OrderedBlocks:
    """Blocks in an order, except those in `skip_mask` (u1, one value per block in C order)."""

    def __init__(self, order: BlockOrder, skip_mask: NDArray[np.uint8]) -> None:
        self._order = order
        self._skip = skip_mask.reshape(-1)
        self._left = self._skip.size - int(np.count_nonzero(self._skip))
        self._unclaimed: _Stretch | None = _Stretch(0, self._skip.size)
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
                stretch = self._stretches[worker] = self._take_over()
            block = stretch.pop(self._order, self._skip)
            if block is not None:
                self._left -= 1
                return block
        return None

    def _take_over(self) -> _Stretch:
        """A part of the order for a worker without one."""
        if self._unclaimed is not None:
            whole, self._unclaimed = self._unclaimed, None
            return whole
        return max(self._stretches.values(), key=lambda stretch: stretch.left).split()


class _Stretch:
    """The blocks at the positions `begin .. end` of an order that have not been handed out."""

    def __init__(self, begin: int, end: int) -> None:
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
            numbers = order.numbers(self._unseen, stop)
            places = np.flatnonzero(skip[numbers] == 0)
            positions = (places + self._unseen).tolist()
            self._found.extend(zip(positions, numbers[places].tolist(), strict=True))
            self._unseen = stop
            batch = min(2 * batch, MAX_BATCH)
        return self._found.popleft()[1] if self._found else None

    def split(self) -> _Stretch:
        """Give away the second half, or the only position that is left."""
        middle = self._end - (self.left + 1) // 2
        given = _Stretch(middle, self._end)
        self._end = middle
        self._unseen = min(self._unseen, middle)
        while self._found and self._found[-1][0] >= middle:
            self._found.pop()
        return given
