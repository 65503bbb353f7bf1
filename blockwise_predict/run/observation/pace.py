"""How fast a run is now, and how long it will take."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from blockwise_predict.records.status import Counts

# The rate is that of the last minute, or of the last rounds of blocks if these took longer.
WINDOW_S, ROUNDS = 60.0, 2


@dataclass(frozen=True)
class _Sample:
    """At a time: blocks that are done, and those that took work: done or failed."""

    time: float
    done: int
    worked: int


class Pace:
    """The rate of blocks and the time left, from the counts of a run.

    Time counts from the first block that is handed out, not from the start of the workers, and
    blocks from then on, not those of earlier runs. Blocks that are left out do not count as work:
    they take no time.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._samples: deque[_Sample] = deque()
        self._first = 0
        self._counts = Counts(0, 0, 0, 0)

    def observe(self, counts: Counts) -> None:
        """Take note of the counts; called several times a second."""
        sample = _Sample(self._clock(), counts.done, counts.done + counts.failed)
        self._counts = counts
        if not self._samples:
            if counts.processing:
                self._first = sample.worked
                self._samples.append(sample)
            return
        if sample.worked == self._samples[-1].worked:
            return
        self._samples.append(sample)
        while self._samples[1].time < sample.time - WINDOW_S and (
            sample.worked - self._samples[1].worked >= ROUNDS * counts.processing
        ):
            self._samples.popleft()

    @property
    def blocks_per_second(self) -> float | None:
        """The current rate of blocks that are done; None as long as it cannot be told."""
        seconds = self._seconds
        if seconds is None:
            return None
        return (self._samples[-1].done - self._samples[0].done) / seconds

    @property
    def seconds_left(self) -> float | None:
        """The time until all blocks are final, if as many as so far are left out; None as long as
        it cannot be told."""
        seconds, counts = self._seconds, self._counts
        if seconds is None:
            return None
        rate = (self._samples[-1].worked - self._samples[0].worked) / seconds
        share = 1 - (counts.skipped + counts.empty) / counts.final
        return (counts.total - counts.final) * share / rate

    @property
    def _seconds(self) -> float | None:
        """How long the blocks of the window took; None until half of a first round is done.

        A round are as many blocks as are held now. The first ones of a round that began together
        say nothing of how many will follow.
        """
        if not self._samples:
            return None
        first, last = self._samples[0], self._samples[-1]
        worked = last.worked - self._first
        if worked == 0 or 2 * worked < self._counts.processing:
            return None
        # Between two blocks the rate stays as it is, unless the next one is overdue.
        interval = (last.time - first.time) / (last.worked - first.worked)
        seconds = max(last.time - first.time, self._clock() - first.time - interval)
        return max(seconds, 1e-3)
