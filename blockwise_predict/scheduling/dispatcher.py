"""Decides which worker gets which block, and what becomes of blocks that come back undone.

Pure bookkeeping, for one thread: no sockets, no processes, no sleeping. Every block is in one
place: in its source, waiting to be tried again, held by one worker, or final.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal, Protocol

from blockwise_predict.records.departures import Departure
from blockwise_predict.records.failures import Failure
from blockwise_predict.records.ledger import PREDICTED, Ledger, State
from blockwise_predict.scheduling.members import Counts, Held, Member
from blockwise_predict.scheduling.retries import Attempts, RetryPolicy
from blockwise_predict.scheduling.transport.messages import Done


class BlockSource(Protocol):
    """Blocks that have not been handed out yet."""

    @property
    def empty(self) -> bool:
        """Whether all have been handed out."""

    def next(self) -> int | None:
        """The next block; None when all have been handed out."""

    def finish(self, block: int) -> None:
        """Release a block that is done or given up."""

    def close(self) -> None:
        """Release the source; no more blocks are asked for."""


@dataclass(frozen=True)
class Notes:
    """Who is told: `failure` of a block that is given up, `event` of all that happens, `warn` of
    what the user should see."""

    failure: Callable[[int, Attempts], Failure]
    event: Callable[..., None]
    warn: Callable[[str], None]


class Dispatcher:
    """Hands out the blocks that a ledger does not record as done.

    `reason` says why the run stops early, once it has to. OSErrors mean that a record could not be
    written.
    """

    def __init__(
        self,
        source: BlockSource,
        ledger: Ledger,
        retries: int,
        block_timeout: float,
        notes: Notes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.members: dict[int, Member] = {}
        self.given_up: list[Failure] = []
        self.shares: dict[int, float] = {}
        self._source = source
        self._ledger = ledger
        self._retries = RetryPolicy(retries)
        self._timeout = block_timeout
        self._notes = notes
        self._clock = clock
        # Blocks to hand out again, and when at the earliest.
        self._again: list[tuple[float, int]] = []
        self._draining = False
        self._done = ledger.count(*PREDICTED)
        self._skipped = ledger.count(State.SKIPPED)

    @property
    def counts(self) -> Counts:
        """Where the run stands."""
        held = sum(len(member.held) for member in self.members.values())
        return Counts(len(self._ledger.states), self._done, len(self.given_up), held, self._skipped)

    @property
    def reason(self) -> str | None:
        """Why the run stops early; None while it does not."""
        return self._retries.reason

    @property
    def finished(self) -> bool:
        """Whether nothing is left to hand out, and nothing held."""
        left = not self._source.empty or self._again
        return not left and not any(member.held for member in self.members.values())

    @property
    def has_pending_replies(self) -> bool:
        """Whether a worker that waits may get another answer now."""
        return bool(self._again or self._draining or self.reason or self.finished)

    def join(self, member: Member) -> None:
        """Add a worker."""
        self.members[member.number] = member
        slots = sum(m.slots for m in self.members.values())
        self._retries.saw(workers=len(self.members), slots=slots)
        self._notes.event("join", worker=member.number, name=member.name, log=member.log)

    def disconnect(self, worker: int, why: str) -> None:
        """Note that a worker's connection is lost; it keeps its blocks, since it may come back."""
        self.members[worker].away_since = self._clock()
        self._notes.event("disconnect", worker=worker, why=why)

    def rejoin(self, worker: int, holds: Collection[int]) -> list[int]:
        """Take a worker back that has lost its connection and `holds` these blocks.

        Returns those of them that are its own to finish. Blocks that were on their way to it when
        the connection broke are handed out again.
        """
        member = self.members[worker]
        member.away_since = None
        for block in [block for block in member.held if block not in holds]:
            self.back(worker, block)
        self._notes.event("rejoin", worker=worker, held=sorted(member.held))
        return sorted(member.held)

    def close(self) -> None:
        """Release the block source."""
        self._source.close()

    def drain(self) -> None:
        """Hand out no more blocks."""
        self._draining = True

    def next(self, worker: int, slot: int) -> int | Literal["wait", "end"]:
        """A block for a worker's slot, which holds none."""
        member = self.members[worker]
        if self._draining or member.leaving or self.reason or self.finished:
            member.told_to_end = True
            return "end"
        if any(self._retries.must_be_alone(block) for block in member.held):
            return "wait"
        block = self._due(member)
        if block is None and not self._must_run_empty(member):
            block = self._source.next()
        if block is None:
            return "wait"
        member.held[block] = Held(slot, self._clock())
        return block

    def _due(self, member: Member) -> int | None:
        """The first block to be tried again that is due and may go to this worker."""
        now = self._clock()
        unsuitable = []
        found = None
        while found is None and self._again and self._again[0][0] <= now:
            due, block = heapq.heappop(self._again)
            if self._may_take(member, block):
                found = block
            else:
                unsuitable.append((due, block))
        for entry in unsuitable:
            heapq.heappush(self._again, entry)
        return found

    def _may_take(self, member: Member, block: int) -> bool:
        others = any(m is not member and m.takes_blocks for m in self.members.values())
        return self._retries.may_go_to(block, member.number, is_idle=not member.held, others=others)

    def _must_run_empty(self, member: Member) -> bool:
        """Whether a worker gets nothing new, so that a block can be tried alone on it.

        That is the worker with the lowest number, as long as such a block waits.
        """
        now = self._clock()
        if not any(due <= now and self._retries.must_be_alone(b) for due, b in self._again):
            return False
        return member.number == min(m.number for m in self.members.values() if m.takes_blocks)

    def done(self, worker: int, message: Done) -> None:
        """Record a block that is committed, or left out on purpose.

        One that the worker does not hold, since it came back too late, is ignored.
        """
        member = self.members[worker]
        if member.held.pop(message.block, None) is None:
            return
        if message.skipped:
            state = State.SKIPPED
            self._skipped += 1
        else:
            state = State.FILLED if message.filled else State.DONE
            self._done += 1
            if not member.busy.began:
                times = {"compute": message.compute, "write": message.write}
                self._notes.event("first", worker=worker, block=message.block, **times)
            member.busy.count(self._clock(), message.compute, message.write)
        if state != State.DONE:
            self._notes.event(state.name.lower(), block=message.block, note=message.note)
        self._ledger.set(message.block, state, message.clipped, message.nonfinite)
        self._retries.done(message.block)
        self._source.finish(message.block)

    def failed(
        self, worker: int, block: int, error: str, traceback: str, fatal: bool = False
    ) -> None:
        """Record a block's error; a `fatal` one ends the run, and is not the block's fault."""
        member = self.members[worker]
        if member.held.pop(block, None) is None:
            return
        self._notes.event("error", worker=worker, block=block, error=error, traceback=traceback)
        if fatal:
            self._retries.stop(error)
            self._hand_out_again(block)
            return
        self._retries.failed(block, worker, member.log, error, traceback)
        self._try_again(block)
        if not self._retries.is_used_up(block) and self._retries.is_news(error):
            who = f"worker {worker} ({member.name})"
            log = f" Its log: {member.log}" if member.log else ""
            self._notes.warn(f"a block failed on {who} and is tried again: {error}{log}")

    def back(self, worker: int, block: int) -> None:
        """Take back a block as it was."""
        if self.members[worker].held.pop(block, None) is not None:
            self._hand_out_again(block)

    def evict(self, worker: int, cause: Departure, why: str) -> None:
        """Give a worker up and requeue its blocks; the user is told."""
        member = self.members[worker]
        again = f" {len(member.held)} of its blocks will be done again." if member.held else ""
        self._notes.warn(f"worker {worker} ({member.name}) {why}: terminating it.{again}")
        self.leave(worker, cause, why)

    def leave(self, worker: int, cause: Departure, why: str = "") -> None:
        """Remove a worker for good; what it still holds is handed out again."""
        member = self.members.pop(worker)
        if cause is Departure.LOST and (member.told_to_end or member.leaving or self._draining):
            cause = Departure.FINISHED
        if member.busy.share is not None:
            self.shares[worker] = member.busy.share
        self._notes.event("leave", worker=worker, cause=cause, why=why, held=sorted(member.held))
        # One that was told to end and had no time to finish is nobody's fault.
        if not member.leaving and not self._draining:
            self._retries.lost(member.held, member.log)
        for block in member.held:
            self._try_again(block)

    def overdue(self) -> list[tuple[int, int]]:
        """Workers with a block that takes longer than it may, and the block."""
        before = self._clock() - self._timeout
        return [
            (member.number, block)
            for member in self.members.values()
            for block, held in member.held.items()
            if held.since < before
        ]

    def time_out(self, worker: int, block: int) -> None:
        """Take a block that took too long from its worker, and evict that."""
        member = self.members[worker]
        del member.held[block]
        why = f"took longer than --block-timeout ({self._timeout:g} s)"
        error = f"it {why}"
        self._retries.failed(block, worker, member.log, error, "")
        self._notes.event("error", worker=worker, block=block, error=error, traceback="")
        self._try_again(block)
        # The others that it held are not to blame.
        member.leaving = True
        self.evict(worker, Departure.OVERDUE, f"{why} for a block")

    def _hand_out_again(self, block: int, delay: float = 0.0) -> None:
        heapq.heappush(self._again, (self._clock() + delay, block))

    def _try_again(self, block: int) -> None:
        """Requeue a block, or give it up if it has no attempt left."""
        attempts = self._retries.attempts(block)
        if not self._retries.is_used_up(block):
            self._hand_out_again(block, attempts.delay)
            return
        failure = self._notes.failure(block, attempts)
        self.given_up.append(failure)
        self._ledger.set(block, State.FAILED)
        self._source.finish(block)
        self._notes.event("failed", block=block, roi=failure.roi, error=attempts.error)
        if len(self.given_up) == 1:
            self._notes.warn(f"block {failure.roi} failed for good: {attempts.error}")
