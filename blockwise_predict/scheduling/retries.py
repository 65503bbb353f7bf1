"""When a block is retried, on which worker, and which failures mean that the run should stop.

1. An error or a timeout costs a block one of its attempts. The next attempt is made by another
   worker if there is one.
2. A lost worker (one that does not come back within its grace period) costs a block an attempt only
   if it held no other block. Blocks that were lost together are not charged; each is then tried
   alone.
3. The run stops when many different blocks have failed in the same way and none of them has been
   done since.

Pure bookkeeping: no messages, no files.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

# Delay before the next attempt (seconds); it grows with every attempt.
FIRST_DELAY, DELAY_FACTOR, MAX_DELAY = 0.5, 4.0, 60.0
# Delay after a lost worker: meanwhile it shows whether other blocks kill their workers, too.
LOST_DELAY = 30.0
# "Many" blocks: at least this number, and at least twice as many as can fail at the same time for
# one cause outside the blocks, such as a file server that restarts.
MANY_ERRORS, MANY_LOST, FACTOR = 10, 5, 2
LOST = "its worker was lost, and held no other block"


@dataclass
class Attempts:
    """The failed attempts at a block: their number, and the last one's error, worker and log.

    `alone`: the block may be what kills its workers, so it is only tried on an idle worker.
    """

    count: int = 0
    error: str = ""
    traceback: str = ""
    worker: int | None = None
    log: str = ""
    alone: bool = False

    @property
    def delay(self) -> float:
        """Seconds until the next attempt."""
        if not self.count:
            return 0.0
        if self.alone:
            return LOST_DELAY
        return min(MAX_DELAY, FIRST_DELAY * DELAY_FACTOR ** (self.count - 1))


class RetryPolicy:
    """Counts failures. `reason` says why the run should stop, once it should."""

    def __init__(self, retries: int) -> None:
        self.reason: str | None = None
        self._limit = retries + 1
        self._attempts: dict[int, Attempts] = {}
        # Blocks that failed and have not been done since, by kind of failure.
        self._alike: dict[str, set[int]] = {}
        self._reported: set[str] = set()
        self._workers = self._slots = 1

    def observe_fleet(self, workers: int, slots: int) -> None:
        """Note how many workers, with how many slots in total, work at the same time."""
        self._workers = max(self._workers, workers)
        self._slots = max(self._slots, slots)

    def failed(
        self, block: int, worker: int, error: str, *, log: str = "", traceback: str = ""
    ) -> Attempts:
        """Count an error or a timeout of a block."""
        attempts = self._attempts.setdefault(block, Attempts())
        attempts.count += 1
        attempts.error, attempts.traceback = error, traceback
        attempts.worker, attempts.log, attempts.alone = worker, log, False
        alike = self._count_alike(_kind(error), block)
        if alike >= max(MANY_ERRORS, FACTOR * self._slots):
            self.stop(f"{alike} different blocks failed with the same error: {error}")
        return attempts

    def lost(self, blocks: Collection[int], log: str) -> None:
        """Count blocks that a lost worker held."""
        for block in blocks:
            self._attempts.setdefault(block, Attempts()).alone = True
        if len(blocks) != 1:
            return
        (block,) = blocks
        attempts = self._attempts[block]
        attempts.count += 1
        attempts.worker = None
        # An earlier exception says more than the loss of a worker.
        if not attempts.traceback:
            attempts.error, attempts.log = LOST, log
        alike = self._count_alike(LOST, block)
        if alike >= max(MANY_LOST, FACTOR * self._workers):
            self.stop(
                f"{alike} different blocks took their worker with them. Often a worker needs more "
                "memory than there is: see their logs, and use a smaller --memory or fewer "
                "--workers."
            )

    def _count_alike(self, kind: str, block: int) -> int:
        blocks = self._alike.setdefault(kind, set())
        blocks.add(block)
        return len(blocks)

    def done(self, block: int) -> None:
        """Forget the failures of a block that is done."""
        if self._attempts.pop(block, None) is not None:
            for blocks in self._alike.values():
                blocks.discard(block)

    def attempts(self, block: int) -> Attempts:
        """The failed attempts at a block so far."""
        return self._attempts.get(block, Attempts())

    def is_exhausted(self, block: int) -> bool:
        """Whether a block has no attempt left."""
        return self.attempts(block).count >= self._limit

    def must_be_alone(self, block: int) -> bool:
        """Whether a block may only go to an idle worker."""
        return block in self._attempts and self._attempts[block].alone

    def may_go_to(self, block: int, worker: int, *, is_idle: bool, others: bool) -> bool:
        """Whether a worker may have a block. `is_idle`: it holds none; `others`: there are other
        workers."""
        attempts = self._attempts.get(block)
        if attempts is None:
            return True
        if attempts.alone:
            return is_idle
        # Another worker can tell a bad block from a bad machine.
        return attempts.worker != worker or not others

    def mark_reported(self, error: str) -> bool:
        """Mark a kind of error as reported to the user; returns whether it is the first time."""
        kind = _kind(error)
        is_new = kind not in self._reported
        self._reported.add(kind)
        return is_new

    def stop(self, reason: str) -> None:
        """Stop the run; the first reason is kept."""
        self.reason = self.reason or reason


def _kind(error: str) -> str:
    """An error without its numbers, which differ from block to block."""
    return re.sub(r"\d+", "#", error)
