"""When a run was on, and who worked on it, from its events and its ledger."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blockwise_predict.records import RunDir
from blockwise_predict.records.status import Published
from blockwise_predict.records.workerlogs import WorkerLog, worker_logs

Interval = tuple[float, float]
"""Begin and end, in seconds since 1970."""


@dataclass(frozen=True)
class Presence:
    """A worker, and when it was there."""

    worker: WorkerLog
    interval: Interval


@dataclass(frozen=True)
class History:
    """The periods in which the scheduler was on, oldest first, and the workers of all of them."""

    sessions: tuple[Interval, ...]
    presences: tuple[Presence, ...]

    @property
    def seconds(self) -> float:
        """How long the scheduler was on, in all."""
        return sum(end - begin for begin, end in self.sessions)

    @property
    def worker_hours(self) -> float:
        """Hours of all workers, added up."""
        return sum(end - begin for begin, end in self._intervals) / 3600

    @property
    def node_hours(self) -> float:
        """Hours in which hosts had workers, added up over the hosts."""
        hosts: dict[str, list[Interval]] = {}
        for one in self.presences:
            hosts.setdefault(one.worker.host, []).append(one.interval)
        return sum(covered_seconds(intervals) for intervals in hosts.values()) / 3600

    @property
    def _intervals(self) -> list[Interval]:
        return [one.interval for one in self.presences]


def history_of(
    run_dir: RunDir,
    events: Sequence[dict[str, Any]],
    records: NDArray[np.void],
    published: Published | None,
    *,
    running: bool,
) -> History:
    """The history of a run, from its `events` and the ledger's `records`.

    `published` is what its scheduler last published, `running` whether it is on. A session or
    worker whose end is not recorded, since it was killed, ended with what it did last. Events are
    kept within bounds: of long runs with many errors the beginning may be missing.
    """
    sessions = _sessions(events, records["ended"].reshape(-1), published, running=running)
    presences = []
    for one in worker_logs(run_dir, events).all:
        if one.number is not None:
            until = one.left
            if until is None:
                until = _still_there(one, records.reshape(-1), sessions, running=running)
            presences.append(Presence(one, (one.joined, max(one.joined, until))))
    return History(tuple(sessions), tuple(presences))


def _sessions(
    events: Sequence[dict[str, Any]],
    ended: NDArray[np.float64],
    published: Published | None,
    *,
    running: bool,
) -> list[Interval]:
    begins = [event["time"] for event in events if event["event"] == "begin"]
    ends = [event["time"] for event in events if event["event"] == "end"]
    if not begins and published is not None:
        # The event has made way for later ones.
        begins = [published.began]
    seen = [time.time()] if running else [] if published is None else [published.time]
    sessions = []
    for begin, following in pairwise([*begins, np.inf]):
        known = [end for end in (*ends, *seen) if begin <= end < following]
        sessions.append((begin, known[0] if known else _last_between(ended, begin, following)))
    return sessions


def _still_there(
    one: WorkerLog, records: NDArray[np.void], sessions: list[Interval], *, running: bool
) -> float:
    """Until when a worker was there whose leaving is not recorded."""
    session = next((s for s in reversed(sessions) if s[0] <= one.joined), (one.joined,) * 2)
    if running and session in sessions[-1:]:
        return session[1]
    own = records["ended"][records["worker"] == one.number]
    return _last_between(own, one.joined, session[1] + 1)


def _last_between(times: NDArray[np.float64], begin: float, end: float) -> float:
    """The last of these times in a period; its begin if there is none."""
    inside = times[(times >= begin) & (times < end)]
    return float(inside.max()) if len(inside) else begin


def covered_seconds(intervals: Iterable[Interval]) -> float:
    """Length of the union of intervals."""
    total, until = 0.0, -np.inf
    for begin, end in sorted(intervals):
        total += max(0.0, end - max(begin, until))
        until = max(until, end)
    return float(total)
