"""The workers that have joined: as the dispatcher sees them (Member), and as fleets do
(Membership)."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from blockwise_predict.errors import shortened
from blockwise_predict.records.ledger import PREDICTED
from blockwise_predict.records.ledger_file import Work
from blockwise_predict.records.status import WorkerStatus
from blockwise_predict.scheduling.transport.messages import Done


@dataclass(frozen=True)
class Registration:
    """The last worker that joined under a number.

    `job` is the cluster job that it runs in ("" if none), `since` the `time.monotonic()` at which
    it joined, `present` whether it is connected, or may reconnect within its grace period.
    """

    job: str
    since: float
    present: bool


@dataclass(frozen=True)
class Membership:
    """An immutable snapshot of all workers that ever joined, by number.

    `joins` counts how often a worker has joined, `done` the blocks that are done.
    """

    workers: Mapping[int, Registration] = field(default_factory=dict)
    joins: int = 0
    done: int = 0

    @cached_property
    def present(self) -> frozenset[int]:
        """The numbers of the workers that are present."""
        return frozenset(number for number, worker in self.workers.items() if worker.present)

    @cached_property
    def numbers(self) -> Mapping[str, int]:
        """The number of the present worker of each cluster job."""
        return {self.workers[number].job: number for number in self.present}

    @cached_property
    def jobs(self) -> Mapping[str, float]:
        """When a worker of each cluster job last joined."""
        by_time = sorted(self.workers.values(), key=lambda worker: worker.since)
        return {worker.job: worker.since for worker in by_time}

    def joined(self, number: int, after: float) -> bool:
        """Whether a worker has joined under a number after a time."""
        return number in self.workers and self.workers[number].since > after

    def job_joined(self, job: str, after: float) -> bool:
        """Whether a worker of a cluster job has joined after a time."""
        return job in self.jobs and self.jobs[job] > after

    def with_worker(self, number: int, job: str, since: float) -> Membership:
        """The snapshot after a worker has joined."""
        workers = {**self.workers, number: Registration(job, since, True)}
        return replace(self, workers=workers, joins=self.joins + 1)

    def without_worker(self, number: int) -> Membership:
        """The snapshot after a worker has left."""
        left = replace(self.workers[number], present=False)
        return replace(self, workers={**self.workers, number: left})


@dataclass(frozen=True)
class Changes:
    """Workers that a fleet wants released, and workers that it knows to have ended.

    `leaving` are to finish the blocks that they hold, and end. The process or job of those that are
    `gone` has ended, so their blocks can go to others at once.
    """

    leaving: tuple[int, ...] = ()
    gone: tuple[int, ...] = ()


# Characters of a worker's last error that are shown.
MAX_ERROR = 400
# Number of blocks whose mean interval is a worker's rate.
_RECENT = 8


@dataclass
class Utilization:
    """The share of time that a worker's device computed, from the end of its first block to the end
    of its last."""

    blocks: int = 0
    _first: float | None = None
    _last: float = 0.0
    _computed: float = 0.0
    _recent: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))

    def count(self, now: float, compute: float, write: float) -> None:
        """Count a block that is done now; computing took `compute` seconds, and committing it
        another `write` seconds."""
        end = now - write
        if self._first is None:
            self._first = end
        else:
            self._computed += compute
        self._last = end
        self.blocks += 1
        self._recent.append(now)

    def rate(self, now: float) -> float | None:
        """Blocks per second lately, which falls while no block is done; None for fewer than two."""
        if len(self._recent) < 2:
            return None
        first, last = self._recent[0], self._recent[-1]
        interval = (last - first) / (len(self._recent) - 1)
        return 1 / max(interval, now - last, 1e-6)

    @property
    def share(self) -> float | None:
        """The share of time, from 0 to 1; None for fewer than two blocks."""
        if self._first is None or self._last <= self._first:
            return None
        return min(1.0, self._computed / (self._last - self._first))


@dataclass(frozen=True)
class Held:
    """A block that a worker holds: for which slot, and since when (seconds of the clock)."""

    slot: int
    since: float


@dataclass
class Member:
    """A worker that has joined, with the blocks it holds.

    `job` is the cluster job that it runs in, `device` what it computes on and `log` its log file,
    "" if unknown. `joined` is in seconds since 1970. `leaving`: it
    takes no more blocks. `told_to_end`: it was told that there are no more blocks. `away_since`:
    when its connection was lost, if it may still reconnect. `has_ended`: its fleet knows that its
    process has ended, though messages may still arrive.
    """

    number: int
    name: str
    slots: int = 1
    host: str = ""
    job: str = ""
    device: str = ""
    log: str = ""
    joined: float = field(default_factory=time.time)
    last_error: str = ""
    held: dict[int, Held] = field(default_factory=dict)
    leaving: bool = False
    away_since: float | None = None
    told_to_end: bool = False
    has_ended: bool = False
    utilization: Utilization = field(default_factory=Utilization)

    @property
    def takes_blocks(self) -> bool:
        """Whether it is connected and may request blocks."""
        return not self.leaving and self.away_since is None

    def finish(self, message: Done, now: float) -> Work:
        """Take a block that it reports as done, and that it holds; what its record will say."""
        held = self.held.pop(message.block)
        if message.state in PREDICTED:
            self.utilization.count(now, message.compute, message.write)
        return Work(
            worker=self.number,
            ended=time.time(),
            took=now - held.since,
            read=message.read,
            compute=message.compute,
            write=message.write,
        )

    def status(self, now: float) -> WorkerStatus:
        """What to show of it; `now` is on the clock of its blocks."""
        return WorkerStatus(
            number=self.number,
            name=self.name,
            host=self.host,
            job=self.job,
            device=self.device,
            joined=self.joined,
            done=self.utilization.blocks,
            rate=self.utilization.rate(now),
            busy=self.utilization.share,
            held=len(self.held),
            away=self.away_since is not None,
            leaving=self.leaving or self.told_to_end,
            last_error=shortened(self.last_error, MAX_ERROR),
        )
