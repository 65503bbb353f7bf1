"""The workers that have joined, and where the run stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property


@dataclass(frozen=True)
class Counts:
    """Blocks of a run: all, done (in this run or before), failed for good in this run, in work,
    and left out on purpose."""

    total: int
    done: int
    failed: int
    processing: int
    skipped: int = 0

    @property
    def final(self) -> int:
        """Blocks that this run does not try again."""
        return self.done + self.failed + self.skipped


@dataclass(frozen=True)
class Attended:
    """A worker number, as of the last time that a worker joined under it.

    `job` is the cluster's job that it runs in ("" if none), `since` the `time.monotonic()` at which
    it joined, `present` whether it is connected, or may come back within its grace.
    """

    job: str
    since: float
    present: bool


@dataclass(frozen=True)
class Attendance:
    """The workers as fleets see them, by number: a snapshot, replaced as a whole and never changed.

    `joins` counts how often a worker has joined, `done` the blocks that are done.
    """

    workers: Mapping[int, Attended] = field(default_factory=dict)
    joins: int = 0
    done: int = 0

    @cached_property
    def present(self) -> frozenset[int]:
        """The numbers of workers that are there."""
        return frozenset(number for number, worker in self.workers.items() if worker.present)

    @cached_property
    def numbers(self) -> Mapping[str, int]:
        """The number of the worker that is there, by the cluster's job that it runs in."""
        return {self.workers[number].job: number for number in self.present}

    @cached_property
    def jobs(self) -> Mapping[str, float]:
        """When a worker of each of the cluster's jobs last joined."""
        by_time = sorted(self.workers.values(), key=lambda worker: worker.since)
        return {worker.job: worker.since for worker in by_time}

    def joined(self, number: int, after: float) -> bool:
        """Whether a worker has joined under a number after a time."""
        return number in self.workers and self.workers[number].since > after

    def job_joined(self, job: str, after: float) -> bool:
        """Whether a worker of the cluster's job has joined after a time."""
        return job in self.jobs and self.jobs[job] > after

    def with_worker(self, number: int, job: str, since: float) -> Attendance:
        """This one after a worker has joined."""
        workers = {**self.workers, number: Attended(job, since, True)}
        return replace(self, workers=workers, joins=self.joins + 1)

    def without_worker(self, number: int) -> Attendance:
        """This one after a worker has left."""
        left = replace(self.workers[number], present=False)
        return replace(self, workers={**self.workers, number: left})


@dataclass(frozen=True)
class Changes:
    """What a fleet has to tell the server of its workers.

    `leaving` are to be released after the blocks that they hold; `gone` are those whose process or
    job is known to have ended: their blocks can go to others at once, and whoever still speaks
    under such a number is none of the fleet's.
    """

    leaving: tuple[int, ...] = ()
    gone: tuple[int, ...] = ()


@dataclass
class Busy:
    """How much of its time a worker's device computed: from the end of its first block to that of
    its last."""

    _first: float | None = None
    _last: float = 0.0
    _computed: float = 0.0

    def count(self, now: float, compute: float, write: float) -> None:
        """A block was done now; it took `compute` seconds, and `write` from then to its commit."""
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
        """The share of the time that was computed; None for a worker of less than two blocks."""
        if self._first is None or self._last <= self._first:
            return None
        return min(1.0, self._computed / (self._last - self._first))


@dataclass(frozen=True)
class Held:
    """A block in a worker's hands: for which slot, and since when (seconds, the clock's)."""

    slot: int
    since: float


@dataclass
class Member:
    """A worker that has joined: the blocks it holds and how busy it was.

    `job` is the cluster's job that it runs in, `log` its log, where there is one. `leaving`: it
    takes no more blocks. `told_to_end`: there was nothing more for it to do. `away_since`: when its
    connection was lost, if it may still come back. `has_ended`: its process has, as its fleet
    knows; its connection may linger.
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
    busy: Busy = field(default_factory=Busy)

    @property
    def takes_blocks(self) -> bool:
        """Whether it is here and may ask for blocks."""
        return not self.leaving and self.away_since is None
