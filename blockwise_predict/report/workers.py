"""The workers of a run by number: when each was there, where, and why it left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from blockwise_predict.report.history import History, Presence
from blockwise_predict.report.trace import Trace


@dataclass(frozen=True)
class Stay:
    """A time that a worker was there, in seconds since 1970, and where it ran.

    `device` is empty if it is not recorded. `lost` tells whether something was wrong with it, its
    machine or its connection; `why` says how it left, and is empty if it is still there or if that
    is not recorded.
    """

    host: str
    device: str
    joined: float
    left: float
    lost: bool
    why: str


@dataclass
class Worker:
    """A worker, by its number, which a replacement takes over, and which a run that is resumed
    gives out again: so its stays, oldest first, may be on several hosts. `errors` counts those of
    its blocks."""

    number: int
    stays: list[Stay] = field(default_factory=list)
    errors: int = 0

    @property
    def losses(self) -> int:
        """How often it was lost."""
        return sum(stay.lost for stay in self.stays)

    @property
    def places(self) -> str:
        """The hosts and devices that it was on."""
        return "; ".join(dict.fromkeys(_place(stay) for stay in self.stays))


def workers_of(history: History) -> list[Worker]:
    """The workers of a run, by number."""
    workers: dict[int, Worker] = {}
    for presence in history.presences:
        one = presence.worker
        assert one.number is not None
        worker = workers.setdefault(one.number, Worker(one.number))
        worker.errors += len(one.errors)
        worker.stays.append(_stay(presence))
    return [workers[number] for number in sorted(workers)]


def block_hosts(workers: Sequence[Worker], trace: Trace) -> list[str]:
    """The host of each block, by number; empty if it is not recorded.

    It is that of the last stay of the block's worker that began before the block ended.
    """
    names = [""]
    places = np.zeros(len(trace.worker), np.int32)
    order = np.argsort(trace.worker, kind="stable")
    numbers = trace.worker[order]
    for worker in workers:
        low, high = np.searchsorted(numbers, [worker.number, worker.number + 1])
        own = order[low:high]
        joined = [stay.joined for stay in worker.stays]
        stays = np.searchsorted(joined, trace.ended[own], side="right")
        firsts = [0, *range(len(names), len(names) + len(joined))]
        names += [stay.host for stay in worker.stays]
        places[own] = np.take(firsts, stays)
    return [names[place] for place in places.tolist()]


def _place(stay: Stay) -> str:
    return f"{stay.host}, {stay.device}" if stay.device else stay.host


def _stay(presence: Presence) -> Stay:
    one = presence.worker
    lost = bool(one.exit) or (one.departure is not None and one.departure.failed)
    return Stay(one.host, one.device, *presence.interval, lost=lost, why=one.exit or one.why)
