"""How fast a run is now, and how long it will take."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from blockwise_predict.records.status import Counts

# The rate is that of the last minute, or of the last rounds of blocks if these took longer.
WINDOW_S, ROUNDS = 60.0, 2


class Pace:
    """The rate of blocks and the time left, from the counts of a run.

    Time counts from the first block that is handed out, not from the start of the workers, and
    blocks from then on, not those of earlier runs. Blocks that are left out do not count as work:
    they take no time.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._samples: deque[tuple[float, int]] = deque()
        self._first = 0
        # Most blocks that were held at the same time: one round.
        self._round = 0
        self._counts = Counts(0, 0, 0, 0)

    def observe(self, counts: Counts) -> None:
        """Take note of the counts; called several times a second."""
        now, worked = self._clock(), counts.done + counts.failed
        self._counts = counts
        self._round = max(self._round, counts.processing)
        if not self._samples:
            if counts.processing:
                self._first = worked
                self._samples.append((now, worked))
            return
        if worked == self._samples[-1][1]:
            return
        self._samples.append((now, worked))
        while self._samples[1][0] < now - WINDOW_S and (
            worked - self._samples[1][1] >= ROUNDS * self._round
        ):
            self._samples.popleft()

    @property
    def blocks_per_second(self) -> float | None:
        """The current rate; None until half of the blocks of a first round are done.

        The first ones of a round that began together say nothing of how many will follow.
        """
        if not self._samples:
            return None
        (begin, before), (last, worked) = self._samples[0], self._samples[-1]
        if worked == self._first or 2 * (worked - self._first) < self._round:
            return None
        blocks = worked - before
        interval = (last - begin) / blocks
        # Between two blocks the rate stays as it is, unless the next one is overdue.
        seconds = max(last - begin, self._clock() - begin - interval)
        return blocks / max(seconds, 1e-3)

    @property
    def seconds_left(self) -> float | None:
        """The time until all blocks are final, if as many as so far are left out."""
        rate, counts = self.blocks_per_second, self._counts
        if rate is None:
            return None
        left_out = counts.skipped + counts.empty
        share = 1 - left_out / counts.final
        return (counts.total - counts.final) * share / rate
