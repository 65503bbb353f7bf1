"""Decides which worker gets which block, and what becomes of blocks that come back undone.

Pure bookkeeping, for one thread: no sockets, no processes, no sleeping. Every block is in one
place: fresh (with daisy's scheduler), waiting to be tried again, held by one worker, or final.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from blockwise_predict.records.departures import Departure
from blockwise_predict.records.failures import Failure
from blockwise_predict.records.ledger import PREDICTED, Ledger, State
from blockwise_predict.scheduling.attempts import ALONE, ERROR, Breaker, Trouble
from blockwise_predict.scheduling.members import Counts, Member
from blockwise_predict.scheduling.protocol import Done

# A block that failed goes to another worker, if one asks within so many seconds.
PREFER_OTHERS_S = 5.0


class Fresh(Protocol):
    """Blocks that have not been handed out yet."""

    @property
    def empty(self) -> bool:
        """Whether all have been handed out."""

    def next(self) -> int | None:
        """The next block; None when all have been handed out."""

    def finish(self, block: int) -> None:
        """A block is done or given up."""

    def close(self) -> None:
        """No more will be asked for."""


@dataclass(frozen=True)
class Notes:
    """Who is told: `failure` of a block that is given up, `event` of all that happens, `warn` of
    what the user should see."""

    failure: Callable[[int, Trouble], Failure]
    event: Callable[..., None]
    warn: Callable[[str], None]


class Dispatcher:
    """Hands out the blocks that a ledger does not record as done.

    `reason` says why the run stops early, once it has to.
    """

    def __init__(
        self,
        fresh: Fresh,
        ledger: Ledger,
        retries: int,
        block_timeout: float,
        notes: Notes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.members: dict[int, Member] = {}
        self.given_up: list[Failure] = []
        self.shares: dict[int, float] = {}
        self._fresh = fresh
        self._ledger = ledger
        self._parts = ERROR * (retries + 1)
        self._timeout = block_timeout
        self._notes = notes
        self._clock = clock
        self._again: list[tuple[float, int]] = []
        self._trouble: dict[int, Trouble] = {}
        self._breaker = Breaker()
        self._no_more = False
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
        return self._breaker.reason

    @property
    def finished(self) -> bool:
        """Whether nothing is left to hand out, and nothing held."""
        left = not self._fresh.empty or self._again
        return not left and not any(member.held for member in self.members.values())

    @property
    def something_to_say(self) -> bool:
        """Whether a worker that waits may get another answer now."""
        return bool(self._again or self._no_more or self.reason or self.finished)

    def join(self, member: Member) -> None:
        """A worker joins; one that had its number before is gone."""
        if member.number in self.members:
            self.leave(member.number, Departure.RECONNECTED)
        self.members[member.number] = member
        self._notes.event("join", worker=member.number, name=member.name, log=member.log)

    def close(self) -> None:
        """All is said."""
        self._fresh.close()

    def drain(self) -> None:
        """Hand out no more."""
        self._no_more = True

    def next(self, worker: int) -> int | Literal["wait", "end"]:
        """A block for a worker that asks for one."""
        member = self.members[worker]
        if self._no_more or member.leaving or self.reason or self.finished:
            member.told_to_end = True
            return "end"
        if any(self._is_alone(block) for block in member.held):
            return "wait"
        block = self._due(member)
        if block is None and not self._must_empty(member):
            block = self._fresh.next()
        if block is None:
            return "wait"
        member.held[block] = self._clock()
        return block

    def _is_alone(self, block: int) -> bool:
        return block in self._trouble and self._trouble[block].alone

    def _due(self, member: Member) -> int | None:
        """The first block to be tried again that is due and may go to this worker."""
        now = self._clock()
        skipped = []
        found = None
        while self._again and self._again[0][0] <= now:
            due, block = heapq.heappop(self._again)
            if self._may_take(member, block, now - due):
                found = block
                break
            skipped.append((due, block))
        for entry in skipped:
            heapq.heappush(self._again, entry)
        return found

    def _may_take(self, member: Member, block: int, waited: float) -> bool:
        trouble = self._trouble.get(block)
        if trouble is None:
            return True
        if trouble.alone:
            return not member.held
        # Another worker tells a bad block from a bad machine.
        others = any(m.number != member.number and not m.leaving for m in self.members.values())
        return trouble.worker != member.number or not others or waited > PREFER_OTHERS_S

    def _must_empty(self, member: Member) -> bool:
        """Whether a worker should get nothing new, so that a block can be tried alone on it.

        The worker with the lowest number does that, as long as such a block waits.
        """
        now = self._clock()
        if not any(due <= now and self._is_alone(block) for due, block in self._again):
            return False
        return member.number == min(m.number for m in self.members.values() if not m.leaving)

    def done(self, worker: int, message: Done) -> None:
        """A block is committed, or left out on purpose; one that the worker has lost is ignored."""
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
        self._trouble.pop(message.block, None)
        self._fresh.finish(message.block)
        self._breaker.done()

    def failed(
        self, worker: int, block: int, error: str, traceback: str, fatal: bool = False
    ) -> None:
        """A block raised an error; a `fatal` one ends the run, and is not the block's fault."""
        member = self.members[worker]
        if member.held.pop(block, None) is None:
            return
        self._notes.event("error", worker=worker, block=block, error=error, traceback=traceback)
        if fatal:
            self._breaker.stop(error)
            self._hand_out_again(block)
            return
        trouble = self._blame(block, member, error, traceback)
        at_once = sum(m.slots for m in self.members.values())
        self._breaker.failed(block, error, at_once)
        trouble.parts += ERROR
        trouble.alone = False
        self._try_again(block, trouble)
        if trouble.parts < self._parts and self._breaker.is_new(error):
            who = f"worker {worker} ({member.name})"
            log = f" Its log: {member.log}" if member.log else ""
            self._notes.warn(f"a block failed on {who} and is tried again: {error}{log}")

    def back(self, worker: int, block: int) -> None:
        """A block is handed back as it was."""
        if self.members[worker].held.pop(block, None) is not None:
            self._hand_out_again(block)

    def expel(self, worker: int, why: str, cause: Departure) -> None:
        """A worker is of no use any more, and counts as gone; the user is told."""
        member = self.members[worker]
        again = f" {len(member.held)} of its blocks will be done again." if member.held else ""
        self._notes.warn(f"worker {worker} ({member.name}) {why}: it is ended.{again}")
        self.leave(worker, cause, why)

    def leave(self, worker: int, cause: Departure = Departure.LOST, why: str = "") -> None:
        """A worker is gone; what it still holds is handed out again."""
        member = self.members.pop(worker)
        if cause is Departure.LOST and (member.told_to_end or member.leaving or self._no_more):
            cause = Departure.FINISHED
        if member.busy.share is not None:
            self.shares[worker] = member.busy.share
        self._notes.event("leave", worker=worker, cause=cause, why=why, held=sorted(member.held))
        for block in member.held:
            self._lost(block, member)

    def _lost(self, block: int, member: Member) -> None:
        if member.leaving or self._no_more:
            # It was told to end and had no time to finish them: not their fault.
            self._hand_out_again(block)
            return
        trouble = self._blame(block, member, "its worker died at every attempt", "")
        trouble.alone = True
        if len(member.held) == 1:
            trouble.parts += ALONE
            self._breaker.died_alone(block)
        self._try_again(block, trouble)

    def overdue(self) -> list[tuple[int, int]]:
        """Workers with a block that takes longer than it may, and the block."""
        before = self._clock() - self._timeout
        return [
            (member.number, block)
            for member in self.members.values()
            for block, since in member.held.items()
            if since < before
        ]

    def time_out(self, worker: int, block: int) -> None:
        """Take a block that took too long from its worker, which then counts as gone."""
        del self.members[worker].held[block]
        why = f"took longer than --block-timeout ({self._timeout:g} s)"
        trouble = self._blame(block, self.members[worker], f"it {why}", "")
        trouble.parts += ERROR
        trouble.alone = True
        self._notes.event("error", worker=worker, block=block, error=f"it {why}", traceback="")
        self._try_again(block, trouble)
        # The others that it held are not to blame.
        self.members[worker].leaving = True
        self.expel(worker, f"{why} for a block", Departure.OVERDUE)

    def _hand_out_again(self, block: int, delay: float = 0.0) -> None:
        heapq.heappush(self._again, (self._clock() + delay, block))

    def _blame(self, block: int, member: Member, error: str, traceback: str) -> Trouble:
        trouble = self._trouble.setdefault(block, Trouble())
        trouble.worker, trouble.log = member.number, member.log
        # What an exception said is worth more than that a worker died.
        if traceback or not trouble.traceback:
            trouble.error, trouble.traceback = error, traceback
        return trouble

    def _try_again(self, block: int, trouble: Trouble) -> None:
        if trouble.parts < self._parts:
            self._hand_out_again(block, trouble.delay)
            return
        failure = self._notes.failure(block, trouble)
        self.given_up.append(failure)
        self._ledger.set(block, State.FAILED)
        self._fresh.finish(block)
        self._notes.event("failed", block=block, roi=failure.roi, error=trouble.error)
        self._breaker.gave_up(trouble.error)
        if len(self.given_up) == 1:
            self._notes.warn(f"block {failure.roi} failed for good: {trouble.error}")
