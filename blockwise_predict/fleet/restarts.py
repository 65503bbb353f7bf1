"""When a worker that ended is replaced, and when that is hopeless."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# Number of failed starts in a row that stop a run in which no worker works.
FAILED_STARTS = 3
# Number of ends in a row with no block done that stop a run: for each worker, and on top of that.
FRUITLESS_EACH, FRUITLESS_MORE = 3, 10


@dataclass(frozen=True)
class End:
    """How one of `size` workers ended, and where the run stood then.

    `failed_start`: through its own fault, before it joined. `joins` and `done` count what workers
    have joined and what blocks are done so far; `others_work` says whether another worker is there,
    or about to join.
    """

    failed_start: bool
    joins: int
    done: int
    others_work: bool
    size: int


@dataclass(frozen=True)
class Verdict:
    """What follows from an end: seconds to wait before the worker is replaced, the number of failed
    starts in a row and of ends in a row with no block done, and which of the two makes replacing
    hopeless, if one does."""

    delay: float
    failed_starts: int
    fruitless: int
    hopeless: Literal["starts", "ends"] | None


class RestartPolicy:
    """Decides when a worker that ended is replaced, and when that is hopeless.

    A replacement waits `first_delay` seconds, twice as long (up to `longest_delay`) after each
    failed start in a row, and after each round of ends with no block done. It is hopeless after 3
    failed starts in a row if no other worker works and no block was done since the one before. And
    it is hopeless when, in a row, 3 times as many workers as there should be and 10 more have ended
    with no block done, whatever they died of; failed starts while others work do not count there.
    """

    def __init__(self, first_delay: float, longest_delay: float) -> None:
        self._first_delay = first_delay
        self._longest_delay = longest_delay
        self._failed_starts = self._fruitless = 0
        # Where the run stood at the last failed start, and blocks done at the last end of any kind.
        self._joins_then = self._done_then = self._done = 0

    def ended(self, end: End) -> Verdict:
        """Count one more end."""
        hopeless: Literal["starts", "ends"] | None = None
        if end.done > self._done:
            self._fruitless = 0
        elif not (end.failed_start and end.others_work):
            self._fruitless += 1
        self._done = end.done
        if self._fruitless > FRUITLESS_EACH * end.size + FRUITLESS_MORE:
            hopeless = "ends"
        if end.failed_start and self._start_failed(end):
            hopeless = "starts"
        # All workers may reach their time limit at once: that is one round.
        rounds = self._fruitless // max(1, end.size)
        doublings = max(rounds, self._failed_starts if end.failed_start else 0)
        delay = min(self._longest_delay, self._first_delay * 2 ** min(doublings, 20))
        return Verdict(delay, self._failed_starts, self._fruitless, hopeless)

    def _start_failed(self, end: End) -> bool:
        """Count a failed start; whether there were too many."""
        progress = end.done > self._done_then
        self._failed_starts = 1 if end.joins > self._joins_then else self._failed_starts + 1
        self._joins_then, self._done_then = end.joins, end.done
        idle = not end.others_work and not progress
        return idle and self._failed_starts >= FAILED_STARTS
