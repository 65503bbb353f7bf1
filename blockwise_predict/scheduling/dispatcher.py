"""Decides which worker gets which block, and what becomes of blocks that come back undone.

Pure bookkeeping in a single thread: no sockets, processes or sleeping. Every block is in exactly
one place: in the block source, requeued, held by a worker, or final.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

from blockwise_predict.records.departures import Departure
from blockwise_predict.records.failures import Failure
from blockwise_predict.records.ledger import PREDICTED, UNSELECTED, Ledger, State
from blockwise_predict.records.ledger_file import Work
from blockwise_predict.records.status import Counts, WorkerStatus
from blockwise_predict.scheduling.block_source import BlockSource
from blockwise_predict.scheduling.members import Held, Member
from blockwise_predict.scheduling.retries import Attempts, RetryPolicy
from blockwise_predict.scheduling.transport.messages import Done, Failed


@dataclass(frozen=True)
class Callbacks:
    """What the dispatcher reports to: `failure` records a block that is given up, `event` records
    any event, `warn` informs the user."""

    failure: Callable[[int, Attempts], Failure]
    event: Callable[..., None]
    warn: Callable[[str], None]


class Dispatcher:
    """Hands out the blocks of a source, and records in a ledger what becomes of them.

    `untouched` blocks do not count, though they are not finished. `block_timeout` is in seconds of
    `clock`. An OSError from any method means that a record could
    not be written.
    """

    def __init__(
        self,
        source: BlockSource,
        ledger: Ledger,
        callbacks: Callbacks,
        *,
        retries: int,
        block_timeout: float,
        untouched: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.members: dict[int, Member] = {}
        self.given_up: list[Failure] = []
        self.shares: dict[int, float] = {}
        self._source = source
        self._ledger = ledger
        self._retries = RetryPolicy(retries)
        self._timeout = block_timeout
        self._callbacks = callbacks
        self._clock = clock
        # Heap of requeued blocks, each with the earliest time to hand it out.
        self._requeued: list[tuple[float, int]] = []
        self._draining = False
        self._held_back = False  # Whether all blocks of the source must wait for others.
        self._total = len(ledger.states) - ledger.count(*UNSELECTED) - untouched
        self._done = ledger.count(*PREDICTED)
        self._left_out = {state: ledger.count(state) for state in (State.SKIPPED, State.EMPTY)}

    @property
    def counts(self) -> Counts:
        """The run's counts of blocks."""
        held = sum(len(member.held) for member in self.members.values())
        left_out = self._left_out.values()
        return Counts(self._total, self._done, len(self.given_up), held, *left_out)

    @property
    def workers(self) -> tuple[WorkerStatus, ...]:
        """The workers that are present."""
        now = self._clock()
        return tuple(member.status(now) for member in self.members.values())

    @property
    def reason(self) -> str | None:
        """Why the run stops early; None while it does not."""
        return self._retries.reason

    @property
    def finished(self) -> bool:
        """Whether no block is left to hand out, and none is held."""
        left = not self._source.empty or self._requeued
        return not left and not any(member.held for member in self.members.values())

    @property
    def has_pending_replies(self) -> bool:
        """Whether a waiting worker may get a different answer now."""
        changed = self._draining or self.reason or self.finished
        return bool(self._requeued or self._held_back or changed)

    def join(self, member: Member) -> None:
        """Add a worker."""
        self.members[member.number] = member
        slots = sum(m.slots for m in self.members.values())
        self._retries.observe_fleet(workers=len(self.members), slots=slots)
        about = {key: getattr(member, key) for key in ("name", "host", "job", "device", "log")}
        self._callbacks.event("join", worker=member.number, **about)

    def disconnect(self, worker: int, why: str) -> None:
        """Note that a worker's connection is lost; it keeps its blocks, since it may reconnect."""
        self.members[worker].away_since = self._clock()
        self._callbacks.event("disconnect", worker=worker, why=why)

    def rejoin(self, worker: int, holds: Collection[int]) -> list[int]:
        """Take a reconnected worker back that `holds` these blocks.

        Returns those of them that it is to finish. Blocks that were on their way to it when the
        connection broke are requeued.
        """
        member = self.members[worker]
        member.away_since = None
        for block in [block for block in member.held if block not in holds]:
            self.hand_back(worker, block)
        self._callbacks.event("rejoin", worker=worker, held=sorted(member.held))
        return sorted(member.held)

    def close(self) -> None:
        """Release the block source."""
        self._source.close()

    def drain(self) -> None:
        """Hand out no more blocks."""
        self._draining = True

    def next(self, worker: int, slot: int) -> int | Literal["wait", "end"]:
        """Hand out a block to a worker's slot, which holds none."""
        member = self.members[worker]
        if self._draining or member.leaving or self.reason or self.finished:
            member.told_to_end = True
            return "end"
        if any(self._retries.must_be_alone(block) for block in member.held):
            return "wait"
        block = self._pop_due(member)
        if block is None and not self._must_become_idle(member):
            block = self._source.next(worker)
            self._held_back = block is None and not self._source.empty
        if block is None:
            return "wait"
        member.held[block] = Held(slot, self._clock())
        return block

    def _pop_due(self, member: Member) -> int | None:
        """Take the first requeued block that is due and may go to this worker."""
        now = self._clock()
        unsuitable = []
        found = None
        while found is None and self._requeued and self._requeued[0][0] <= now:
            due, block = heapq.heappop(self._requeued)
            if self._may_take(member, block):
                found = block
            else:
                unsuitable.append((due, block))
        for entry in unsuitable:
            heapq.heappush(self._requeued, entry)
        return found

    def _may_take(self, member: Member, block: int) -> bool:
        others = any(m is not member and m.takes_blocks for m in self.members.values())
        return self._retries.may_go_to(block, member.number, is_idle=not member.held, others=others)

    def _must_become_idle(self, member: Member) -> bool:
        """Whether a worker gets no new block, so that a requeued one can be tried alone on it.

        This is the worker with the lowest number, as long as such a block waits.
        """
        now = self._clock()
        if not any(due <= now and self._retries.must_be_alone(b) for due, b in self._requeued):
            return False
        return member.number == min(m.number for m in self.members.values() if m.takes_blocks)

    def done(self, worker: int, message: Done) -> None:
        """Record a block that is committed, or skipped on purpose.

        The report is ignored if the worker no longer holds the block, since it reconnected too
        late.
        """
        member = self.members[worker]
        if message.block not in member.held:
            return
        if {len(message.clipped), len(message.nonfinite)} != {self._ledger.arrays}:
            wrong = f"counts of {len(message.clipped)} arrays, not of {self._ledger.arrays}"
            self.failed(worker, Failed(block=message.block, error=wrong, traceback=""))
            return
        work = member.finish(message, self._clock())
        state = message.state
        if state in self._left_out:
            self._left_out[state] += 1
        else:
            self._done += 1
            if member.utilization.blocks == 1:
                times = {"compute": message.compute, "write": message.write}
                self._callbacks.event("first", worker=worker, block=message.block, **times)
        if state in (State.SKIPPED, State.FILLED):
            self._callbacks.event(state.name.lower(), block=message.block, note=message.note)
        self._ledger.set(message.block, state, message.clipped, message.nonfinite, work)
        self._retries.done(message.block)
        self._source.finish(message.block)

    def failed(self, worker: int, message: Failed) -> None:
        """Record a block's error. A fatal one stops the run, and is not charged to the block."""
        member = self.members[worker]
        block, error, traceback = message.block, message.error, message.traceback
        if member.held.pop(block, None) is None:
            return
        member.last_error = error
        self._callbacks.event("error", worker=worker, block=block, error=error, traceback=traceback)
        if message.fatal:
            self._retries.stop(error)
            self._requeue(block)
            return
        self._retries.failed(block, worker, error, log=member.log, traceback=traceback)
        self._retry_or_give_up(block)
        if not self._retries.is_exhausted(block) and self._retries.mark_reported(error):
            who = f"worker {worker} ({member.name})"
            log = f" Its log: {member.log}" if member.log else ""
            self._callbacks.warn(f"a block failed on {who} and is tried again: {error}{log}")

    def hand_back(self, worker: int, block: int) -> None:
        """Requeue a block that its worker returns unprocessed; this costs no attempt."""
        if self.members[worker].held.pop(block, None) is not None:
            self._requeue(block)

    def evict(self, worker: int, cause: Departure, why: str) -> None:
        """Remove a worker, requeue its blocks, and inform the user."""
        member = self.members[worker]
        again = f" {len(member.held)} of its blocks will be done again." if member.held else ""
        self._callbacks.warn(f"worker {worker} ({member.name}) {why}: terminating it.{again}")
        self.remove(worker, cause, why)

    def remove(self, worker: int, cause: Departure, why: str = "") -> None:
        """Remove a worker for good, and requeue the blocks that it still holds."""
        member = self.members.pop(worker)
        if cause is Departure.LOST and (member.told_to_end or member.leaving or self._draining):
            cause = Departure.FINISHED
        if member.utilization.share is not None:
            self.shares[worker] = member.utilization.share
        self._callbacks.event(
            "leave", worker=worker, cause=cause, why=why, held=sorted(member.held)
        )
        # A worker that was told to end, but had no time to finish, does not count as lost.
        if not member.leaving and not self._draining:
            self._retries.lost(member.held, member.log)
        for block in member.held:
            self._retry_or_give_up(block)

    def overdue(self) -> list[tuple[int, int]]:
        """Pairs of a worker and a block that has exceeded the block timeout."""
        before = self._clock() - self._timeout
        return [
            (member.number, block)
            for member in self.members.values()
            for block, held in member.held.items()
            if held.since < before
        ]

    def time_out(self, worker: int, block: int) -> None:
        """Take an overdue block from its worker, and evict the worker."""
        member = self.members[worker]
        del member.held[block]
        why = f"took longer than --block-timeout ({self._timeout:g} s)"
        error = f"it {why}"
        self._retries.failed(block, worker, error, log=member.log)
        self._callbacks.event("error", worker=worker, block=block, error=error, traceback="")
        self._retry_or_give_up(block)
        # The other blocks that it held are not charged.
        member.leaving = True
        self.evict(worker, Departure.OVERDUE, f"{why} for a block")

    def _requeue(self, block: int, delay: float = 0.0) -> None:
        heapq.heappush(self._requeued, (self._clock() + delay, block))

    def _retry_or_give_up(self, block: int) -> None:
        """Requeue a block, or give it up if it has no attempt left."""
        attempts = self._retries.attempts(block)
        if not self._retries.is_exhausted(block):
            self._requeue(block, attempts.delay)
            return
        failure = self._callbacks.failure(block, attempts)
        self.given_up.append(failure)
        self._ledger.set(block, State.FAILED, work=Work(ended=time.time()))
        self._source.finish(block)
        self._callbacks.event("failed", block=block, roi=failure.roi, error=attempts.error)
        if len(self.given_up) == 1:
            self._callbacks.warn(f"block {failure.roi} failed for good: {attempts.error}")
