"""A queue that does as a test says, and a fleet of jobs in it."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path

from blockwise_predict.config.model import load_config
from blockwise_predict.fleet.cluster import ClusterFleet
from blockwise_predict.fleet.jobs import JobRecord
from blockwise_predict.fleet.queue import Job, Request, State
from blockwise_predict.fleet.runner import QueueError
from blockwise_predict.records import RunDir
from blockwise_predict.scheduling.members import Membership


def patient() -> bool:
    """Nobody is in a hurry."""
    return False


CONFIG = {"checkpoint": "c", "input": "i.zarr/r", "output": "o.zarr/a", "fleet": "slurm"}


class Book:
    """A queue whose jobs are as the test says: `refuses` all, or `loses` the answer to sbatch."""

    name = "Book"
    commands = ()

    def cancel_command(self, name: str) -> list[str]:
        return ["cancel", name]

    def __init__(self) -> None:
        self.states: dict[str, Job] = {}
        self.refuses: str | None = None
        self.loses = False
        self.submitted = 0
        self.cancelled: list[list[str]] = []
        # Whether it does not answer, and whether somebody waits for that.
        self.hanging, self.waiting = threading.Event(), threading.Event()

    def check(self, _: Request) -> str | None:
        return None

    def submit(self, request: Request) -> str:
        if self.refuses:
            raise QueueError(self.refuses)
        self.submitted += 1
        for key in self.keys(str(self.submitted), request.count):
            self.set(key, State.WAITING)
        if self.loses:
            raise QueueError("Socket timed out on send/recv operation")
        return str(self.submitted)

    def keys(self, job: str, count: int) -> list[str]:
        return [f"book-{job}_{index}" for index in range(count)]

    def set(self, key: str, state: State, what: str = "", *, blameless: bool = False) -> None:
        self.states[key] = Job(key, state, what or state.name, "n1", blameless)

    def jobs(self, _: str) -> list[Job]:
        while self.hanging.is_set():
            self.waiting.set()
            time.sleep(0.01)
        if self.refuses:
            raise QueueError(self.refuses)
        return list(self.states.values())

    def cancel(self, keys: Sequence[str]) -> None:
        if self.refuses:
            raise QueueError(self.refuses)
        self.cancelled.append(list(keys))
        for key in keys:
            self.set(key, State.ENDED, "CANCELLED", blameless=True)

    def cancel_all(self, _: str) -> None:
        self.cancel([key for key, job in self.states.items() if job.state is not State.ENDED])


class Stage:
    """A fleet over a book, and what the user was told."""

    def __init__(self, folder: Path, size: int, **options: object) -> None:
        self.book = Book()
        self.told: list[str] = []
        self.released: set[int] = set()
        self.gone: set[int] = set()
        self.membership = Membership()
        (folder / "logs").mkdir()
        config = load_config({**CONFIG, "workers": size, **options})
        request = Request(folder / "s", "predict-x", size, folder / "logs", config, {})
        self.record = JobRecord(RunDir(folder))
        self.record.begin("slurm", "predict-x", {})
        self.fleet = ClusterFleet(lambda _: self.book, request, self.record, self.told.append)
        self.fleet.start(patient)

    def look(self, times: int = 3) -> None:
        """Let the fleet ask the queue so often."""
        for _ in range(2 * times):
            changes = self.fleet.check(self.membership)
            self.released.update(changes.leaving)
            self.gone.update(changes.gone)
            time.sleep(0.02)

    def join(self, number: int, key: str) -> None:
        """A job runs, and its worker joins."""
        self.book.set(key, State.RUNNING)
        self.membership = self.membership.with_worker(number, key, time.monotonic())

    def leave(self, number: int) -> None:
        """A worker's connection ends."""
        self.membership = self.membership.without_worker(number)

    def alive(self) -> list[str]:
        return [key for key, job in self.book.states.items() if job.state is not State.ENDED]
