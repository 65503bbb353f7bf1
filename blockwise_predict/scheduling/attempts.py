"""How often a block may fail, and when failures say that trying on is of no use.

An error, or a block that takes longer than it may, uses up one attempt. A worker that vanishes
while it has only this block uses up a third of one: more often than not it is the machine. One that
vanishes with several blocks proves nothing against any; they are tried alone from then on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# Parts of an attempt.
ERROR, ALONE = 3, 1
# A block that failed waits before it is tried again: seconds, more with every attempt.
FIRST_DELAY, DELAY_FACTOR, LONGEST_DELAY = 0.5, 4.0, 60.0
# After a worker died with it: in between others show whether they die, too.
DEATH_DELAY = 10.0
# So many different blocks in a row with the same error, and none done, are a bug.
SAME_ERROR_BLOCKS = 5
# So many given up with the same error are one, too, whatever was done between them.
SAME_ERROR_GIVEN_UP = 10
# So many different blocks in a row took their worker with them.
DEADLY_BLOCKS = 4


@dataclass
class Trouble:
    """What is held against a block: parts of attempts, the last error, that worker and its log, and
    whether it may be what kills its workers (`alone`)."""

    parts: int = 0
    error: str = ""
    traceback: str = ""
    worker: int = -1
    log: str = ""
    alone: bool = False

    @property
    def attempts(self) -> int:
        """Attempts used up, rounded up."""
        return -(-self.parts // ERROR)

    @property
    def delay(self) -> float:
        """Seconds until it is tried again."""
        if self.alone:
            return DEATH_DELAY if self.parts else 0.0
        return min(LONGEST_DELAY, FIRST_DELAY * DELAY_FACTOR ** max(0, self.attempts - 1))


class Breaker:
    """Watches for failures that are no bad luck. `reason` says why the run should stop."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self._errors: dict[str, set[int]] = {}
        self._given_up: dict[str, int] = {}
        self._deadly: set[int] = set()
        self._known: set[str] = set()

    def done(self) -> None:
        """A block was done."""
        self._errors.clear()
        self._deadly.clear()

    def is_new(self, error: str) -> bool:
        """Whether it is asked about an error of this kind for the first time."""
        new = _kind(error) not in self._known
        self._known.add(_kind(error))
        return new

    def failed(self, block: int, error: str, at_once: int) -> None:
        """A block failed; `at_once` is how many are in work at the same time."""
        blocks = self._errors.setdefault(_kind(error), set())
        blocks.add(block)
        if len(blocks) >= max(SAME_ERROR_BLOCKS, at_once):
            self.stop(f"{len(blocks)} blocks in a row failed with the same error: {error}")

    def gave_up(self, error: str) -> None:
        """A block used up its attempts."""
        kind = _kind(error)
        self._given_up[kind] = self._given_up.get(kind, 0) + 1
        if self._given_up[kind] >= SAME_ERROR_GIVEN_UP:
            self.stop(f"{self._given_up[kind]} blocks failed for good with one error: {error}")

    def died_alone(self, block: int) -> None:
        """A worker vanished with only this block."""
        self._deadly.add(block)
        if len(self._deadly) >= DEADLY_BLOCKS:
            self.stop(
                f"{len(self._deadly)} different blocks in a row took their worker with them, and "
                "none was done. Often a worker needs more memory than there is: see their logs, "
                "and give a smaller --memory or fewer --workers."
            )

    def stop(self, reason: str) -> None:
        """Stop for a reason; the first one counts."""
        self.reason = self.reason or reason


def _kind(error: str) -> str:
    """An error without what differs from block to block."""
    return re.sub(r"\d+", "#", error)
