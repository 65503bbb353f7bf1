"""The workers of a run by number: when each was there, and why it left."""

from __future__ import annotations

from dataclasses import dataclass, field

from blockwise_predict.report.history import History, Presence


@dataclass(frozen=True)
class Stay:
    """A time that a worker was there, in seconds since 1970.

    `lost` tells whether something was wrong with it, its machine or its connection; `why` says how
    it left, and is empty if it is still there or if that is not recorded.
    """

    joined: float
    left: float
    lost: bool
    why: str


@dataclass
class Worker:
    """A worker, by its number, which a replacement takes over: so it may have stayed more than
    once. `device` is empty if it is not recorded; `errors` counts those of its blocks."""

    number: int
    host: str = ""
    device: str = ""
    stays: list[Stay] = field(default_factory=list)
    errors: int = 0

    @property
    def losses(self) -> int:
        """How often it was lost."""
        return sum(stay.lost for stay in self.stays)


def workers_of(history: History) -> list[Worker]:
    """The workers of a run, by number."""
    workers: dict[int, Worker] = {}
    for presence in history.presences:
        one = presence.worker
        assert one.number is not None
        worker = workers.setdefault(one.number, Worker(one.number))
        worker.host, worker.device = one.host or one.name.split(", ")[0], one.device
        worker.errors += len(one.errors)
        worker.stays.append(_stay(presence))
    return [workers[number] for number in sorted(workers)]


def _stay(presence: Presence) -> Stay:
    one = presence.worker
    lost = bool(one.exit) or (one.departure is not None and one.departure.failed)
    return Stay(*presence.interval, lost=lost, why=one.exit or one.why)
