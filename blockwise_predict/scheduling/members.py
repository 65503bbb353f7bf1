"""The workers that have joined, and where the run stands."""

from __future__ import annotations

from dataclasses import dataclass, field

from blockwise_predict.scheduling.busy import Busy


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


@dataclass
class Attendance:
    """The workers, as a fleet sees them: which have joined (by number, with the cluster's job that
    each runs in), how often one has, which of them are there now, and how many blocks are done."""

    joined: dict[int, str] = field(default_factory=dict)
    joins: int = 0
    present: set[int] = field(default_factory=set)
    done: int = 0

    @property
    def numbers(self) -> dict[str, int]:
        """The number of the worker that is there now, by the cluster's job that it runs in."""
        # Of a copy, since another thread goes on with this.
        return {self.joined[number]: number for number in list(self.present)}


@dataclass
class Member:
    """A worker that has joined: the blocks it holds, since when, and how busy it was.

    `job` is the cluster's job that it runs in, `log` its log, where there is one. `told_to_end`:
    there was nothing more for it to do.
    """

    number: int
    name: str
    slots: int = 1
    job: str = ""
    log: str = ""
    held: dict[int, float] = field(default_factory=dict)
    leaving: bool = False
    told_to_end: bool = False
    busy: Busy = field(default_factory=Busy)
