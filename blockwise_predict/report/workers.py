"""The workers of a run: when each was there, and why it left."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from blockwise_predict.records.departures import departure_of
from blockwise_predict.records.events import is_worker_event


@dataclass
class Stay:
    """A time that a worker was there, in seconds since 1970; `left` is None as long as it is.

    `lost` tells whether something was wrong with it, its machine or its connection; `why` says how
    it left.
    """

    joined: float
    left: float | None = None
    lost: bool = False
    why: str = ""


@dataclass
class Worker:
    """A worker, by its number, which a replacement takes over: so it may have stayed more than
    once. `device` and `job` are empty if they are not recorded."""

    number: int
    host: str
    device: str = ""
    job: str = ""
    stays: list[Stay] = field(default_factory=list)
    errors: int = 0

    @property
    def losses(self) -> int:
        """How often it was lost."""
        return sum(stay.lost for stay in self.stays)


def workers_of(events: Iterable[dict[str, Any]]) -> list[Worker]:
    """The workers in a run's events, by number.

    Where a run was killed, its workers have not left: they are taken to have been there until the
    next event at the latest.
    """
    workers: dict[int, Worker] = {}
    last = 0.0
    for event in events:
        if event["event"] == "begin":
            for worker in workers.values():
                _leave(worker, last, lost=False, why="the run ended")
        last = float(event["time"])
        if not is_worker_event(event):
            continue
        number = event["worker"]
        if event["event"] == "join":
            worker = workers.setdefault(number, Worker(number, ""))
            _leave(worker, last, lost=True, why="it was replaced")
            host = event.get("host") or event["name"].split(", ")[0]
            worker.host, worker.device, worker.job = (
                _text(value) for value in (host, event.get("device"), event.get("job"))
            )
            worker.stays.append(Stay(last))
        elif number in workers:
            _tell(workers[number], event)
    return [workers[number] for number in sorted(workers)]


def _tell(worker: Worker, event: dict[str, Any]) -> None:
    """Add to a worker what an event tells about it."""
    if event["event"] == "error":
        worker.errors += 1
    elif event["event"] == "leave":
        lost = departure_of(event).failed
        _leave(worker, event["time"], lost=lost, why=event["why"] or "its connection was lost")
    elif event["event"] == "exit" and worker.stays:
        worker.stays[-1].lost, worker.stays[-1].why = True, event["how"]
        _leave(worker, event["time"], lost=True, why=event["how"])


def _leave(worker: Worker, when: float, *, lost: bool, why: str) -> None:
    """End a worker's stay, unless it has ended."""
    if worker.stays and worker.stays[-1].left is None:
        stay = worker.stays[-1]
        stay.left, stay.lost, stay.why = when, lost, why


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
