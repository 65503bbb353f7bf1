"""When a worker that ended is replaced, and when replacing workers is hopeless."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# Number of consecutive failed starts that stop a run in which no worker works.
MAX_FAILED_STARTS = 3
# Number of consecutive ends with no block done that a run survives: for each worker, and in
# addition.
FRUITLESS_PER_WORKER, FRUITLESS_EXTRA = 3, 10


@dataclass(frozen=True)
class WorkerExit:
    """How one of `size` workers ended, and where the run stood then.

    `failed_start`: it ended through its own fault, before it joined. `joins` and `done` count the
    workers that have joined and the blocks that are done so far; `others_work` says whether another
    worker is present or about to join.
    """

    failed_start: bool
    joins: int
    done: int
    others_work: bool
    size: int


@dataclass(frozen=True)
class RestartDecision:
    """Whether and when to replace a worker that ended.

    `delay` is in seconds; `failed_starts` counts consecutive failed starts and `fruitless`
    consecutive ends with no block done. `hopeless` says which of the two makes replacing hopeless.
    """

    delay: float
    failed_starts: int
    fruitless: int
    hopeless: Literal["starts", "ends"] | None


class RestartPolicy:
    """Decides when a worker that ended is replaced, and when that is hopeless.

    A replacement waits `first_delay` seconds. The delay doubles, up to `longest_delay`, with each
    consecutive failed start, and with each round of ends in which no block was done. Replacing is
    hopeless after 3 consecutive failed starts if no other worker works and no block was done since
    the previous one. It is also hopeless when more than 3 times the wanted number of workers plus
    10 have ended with no block done in between, whatever they died of; failed starts while others
    work do not count towards that.
    """

    def __init__(self, first_delay: float, longest_delay: float) -> None:
        self._first_delay = first_delay
        self._longest_delay = longest_delay
        self._failed_starts = self._fruitless = 0
        # Joins and blocks done at the last failed start; blocks done at the last end of any kind.
        self._joins_then = self._done_then = self._done = 0

    def ended(self, end: WorkerExit) -> RestartDecision:
        """Count the end of a worker, and decide what follows."""
        hopeless: Literal["starts", "ends"] | None = None
        if end.done > self._done:
            self._fruitless = 0
        elif not (end.failed_start and end.others_work):
            self._fruitless += 1
        self._done = end.done
        if self._fruitless > FRUITLESS_PER_WORKER * end.size + FRUITLESS_EXTRA:
            hopeless = "ends"
        if end.failed_start and self._start_failed(end):
            hopeless = "starts"
        # All workers may reach their time limit at the same time: that counts as one round.
        rounds = self._fruitless // max(1, end.size)
        doublings = max(rounds, self._failed_starts if end.failed_start else 0)
        delay = min(self._longest_delay, self._first_delay * 2 ** min(doublings, 20))
        return RestartDecision(delay, self._failed_starts, self._fruitless, hopeless)

    def _start_failed(self, end: WorkerExit) -> bool:
        """Count a failed start; returns whether there were too many."""
        progress = end.done > self._done_then
        self._failed_starts = 1 if end.joins > self._joins_then else self._failed_starts + 1
        self._joins_then, self._done_then = end.joins, end.done
        idle = not end.others_work and not progress
        return idle and self._failed_starts >= MAX_FAILED_STARTS
