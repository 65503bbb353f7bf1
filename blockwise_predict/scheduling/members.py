"""The workers that have joined, and where the run stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

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


@dataclass(frozen=True)
class Attended:
    """A worker's number, as of the last time that a worker joined under it.

    `job` is the cluster's job that it runs in ("" if none), `since` when it joined
    (time.monotonic()). `present`: it is connected, or may come back within its grace.
    """

    job: str
    since: float
    present: bool


@dataclass(frozen=True)
class Attendance:
    """The workers, as a fleet sees them: by number all that ever joined, how often one has, and the
    number of blocks done. A snapshot, which the serving thread replaces as a whole."""

    workers: Mapping[int, Attended] = field(default_factory=lambda: MappingProxyType({}))
    joins: int = 0
    done: int = 0


@dataclass(frozen=True)
class Held:
    """A block in a worker's hands: for which slot, and since when (seconds, the clock's)."""

    slot: int
    since: float


@dataclass
class Member:
    """A worker that has joined: the blocks it holds and how busy it was.

    `job` is the cluster's job that it runs in, `log` its log, where there is one. `leaving`: it
    takes no more blocks. `away_since`: when its connection was lost, if it may still come back.
    """

    number: int
    name: str
    slots: int = 1
    job: str = ""
    log: str = ""
    held: dict[int, Held] = field(default_factory=dict)
    leaving: bool = False
    away_since: float | None = None
    busy: Busy = field(default_factory=Busy)

    @property
    def takes_blocks(self) -> bool:
        """Whether it is here and may ask for blocks."""
        return not self.leaving and self.away_since is None
