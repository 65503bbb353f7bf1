"""The workers that have joined: as the dispatcher sees them (Member), and as fleets do
(Membership)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property


@dataclass(frozen=True)
class Counts:
    """Numbers of blocks of a run: all that its options select, done (in this run or before), failed
    for good in this run, being processed; left out because of input that could not be read, or that
    is empty."""

    total: int
    done: int
    failed: int
    processing: int
    skipped: int = 0
    empty: int = 0

    @property
    def final(self) -> int:
        """Blocks that this run will not try again."""
        return self.done + self.failed + self.skipped + self.empty


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


@dataclass
class Utilization:
    """The share of time that a worker's device computed, from the end of its first block to the end
    of its last."""

    _first: float | None = None
    _last: float = 0.0
    _computed: float = 0.0

    def count(self, now: float, compute: float, write: float) -> None:
        """Count a block that is done now; computing took `compute` seconds, and committing it
        another `write` seconds."""
        end = now - write
        if self._first is None:
            self._first = end
        else:
            self._computed += compute
        self._last = end

    @property
    def began(self) -> bool:
        """Whether a block was counted."""
        return self._first is not None

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

    `job` is the cluster job that it runs in and `log` its log file, "" if unknown. `leaving`: it
    takes no more blocks. `told_to_end`: it was told that there are no more blocks. `away_since`:
    when its connection was lost, if it may still reconnect. `has_ended`: its fleet knows that its
    process has ended, though messages may still arrive.
    """

    number: int
    name: str
    slots: int = 1
    job: str = ""
    log: str = ""
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
