"""The workers of a run, from its events and its logs."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from blockwise_predict.errors import RunStateError
from blockwise_predict.records import RunDir
from blockwise_predict.records.departures import Departure, departure_of
from blockwise_predict.records.events import is_worker_event

# Bytes of a log that are read to tell whether it is blank.
_BEGIN_BYTES = 4096


@dataclass
class WorkerLog:
    """One worker: its number (None if it never joined), its host, its log, its blocks' errors.

    `host` is "" if it never joined, `device` if it is not recorded. `departure` and `why` say how
    it left the run, `exit` how its process ended if it failed.
    Times are seconds since the epoch.
    """

    number: int | None
    name: str
    log: Path | None
    joined: float = 0.0
    host: str = ""
    device: str = ""
    left: float | None = None
    departure: Departure | None = None
    why: str = ""
    exit: str = ""
    errors: list[str] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        """Whether it failed, or any of its blocks did."""
        return self.number is None or bool(self._state or self.errors)

    @property
    def _state(self) -> str:
        """How it was lost, for the user; empty if it was not."""
        lost = self.departure is not None and self.departure.failed
        return self.exit or (self.why if lost else "")

    @property
    def title(self) -> str:
        """The worker in one line: number, times, host, how it ended, errors, log."""
        if self.number is None:
            return f"(never joined)  {self.log}"
        times = _period(self.joined, self.left)
        state = f", {self._state}" if self._state else ""
        errors = f", {len(self.errors)} errors" if self.errors else ""
        return (
            f"worker {self.number}  {times}  {self.name}{state}{errors}  {self.log or '(no log)'}"
        )


@dataclass(frozen=True)
class WorkerLogs:
    """All workers of a run in the order they joined; then the logs of those that never did."""

    folder: Path
    all: list[WorkerLog]

    @property
    def failed(self) -> list[WorkerLog]:
        """Workers that failed, or any of whose blocks did."""
        return [one for one in self.all if one.failed]

    def of(self, number: int) -> Path:
        """The latest log of a worker. Raises RunStateError if there is none."""
        logs = [one.log for one in self.all if one.number == number and one.log is not None]
        if not logs:
            known = sorted({one.number for one in self.all if one.number is not None})
            raise RunStateError(
                f"--worker {number}: there is no log of it in {self.folder}. Workers: "
                f"{', '.join(map(str, known)) or 'none'}."
            )
        return logs[-1]


def worker_logs(run_dir: RunDir, events: Iterable[dict[str, Any]] | None = None) -> WorkerLogs:
    """The workers in the events of a run, and the logs that belong to none of them.

    `events` are the run's, if they have been read.
    """
    workers: list[WorkerLog] = []
    latest: dict[int, WorkerLog] = {}
    for event in filter(is_worker_event, run_dir.events.read() if events is None else events):
        number = event.get("worker", -1)
        if event["event"] == "join":
            log = Path(event["log"]) if event.get("log") else run_dir.log_file(number)
            one = WorkerLog(
                number,
                event["name"],
                log if os.path.isfile(log) else None,
                joined=event["time"],
                # Earlier versions have it in the name alone.
                host=_text(event, "host") or event["name"].split(", ")[0],
                device=_text(event, "device"),
            )
            latest[number] = one
            workers.append(one)
        elif number in latest and event["event"] == "error":
            latest[number].errors.append(f"block {event['block']}: {event['error']}")
        elif number in latest and event["event"] == "leave":
            one = latest[number]
            one.left, one.departure = event["time"], departure_of(event)
            one.why = event["why"] or "its connection was lost"
        elif number in latest and event["event"] == "exit":
            latest[number].exit = event["how"]
    # Workers record the file itself; the folder may be reached through a link.
    known = {one.log.resolve() for one in workers if one.log is not None}
    lost = [
        WorkerLog(None, "", file)
        for file in sorted(run_dir.logs.glob("*.log"))
        if file.resolve() not in known and not _is_blank(file)
    ]
    return WorkerLogs(run_dir.logs, [*workers, *lost])


def _is_blank(log: Path) -> bool:
    """Whether a log holds nothing but white space. Only its beginning is read: what is longer is
    not blank."""
    with log.open("rb") as file:
        begin = file.read(_BEGIN_BYTES + 1)
    return len(begin) <= _BEGIN_BYTES and not begin.strip()


def _text(event: dict[str, Any], key: str) -> str:
    """A text of an event; events of earlier versions have less of them."""
    value = event.get(key)
    return value if isinstance(value, str) else ""


def _period(begin: float, end: float | None) -> str:
    """Begin and end (seconds since the epoch) in local time; no end while the worker is there."""
    first = datetime.fromtimestamp(begin)
    if end is None:
        return f"{first:%Y-%m-%d %H:%M:%S}-"
    last = datetime.fromtimestamp(end)
    same_day = first.date() == last.date()
    return f"{first:%Y-%m-%d %H:%M:%S}-" + f"{last:{'' if same_day else '%Y-%m-%d '}%H:%M:%S}"
