"""State shared between the scheduler's serving thread and its main thread."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from queue import SimpleQueue

from blockwise_predict.errors import first_error
from blockwise_predict.records.status import Counts, WorkerStatus
from blockwise_predict.scheduling.members import Membership


@dataclass
class Status:
    """The state of a run; written by the thread that serves the workers, read by the main thread.

    `workers` are those that are present. `reason` says why the run has to stop early, `error` is a
    failure of the serving thread itself. `membership` is the fleet's view of its workers; `lost`
    receives the numbers of evicted workers, whose processes are to be terminated. `finished` is set
    when the run ends for any reason; `shares` then holds each worker's utilization, from 0 to 1.
    """

    counts: Counts = field(default_factory=lambda: Counts(0, 0, 0, 0))
    workers: tuple[WorkerStatus, ...] = ()
    reason: str | None = None
    error: BaseException | None = None
    membership: Membership = field(default_factory=Membership)
    lost: SimpleQueue[int] = field(default_factory=SimpleQueue)
    shares: dict[int, float] = field(default_factory=dict)
    finished: threading.Event = field(default_factory=threading.Event)

    def fail(self, error: BaseException) -> None:
        """Stop the run because of an error; the first one is kept."""
        self.error = self.error or first_error(error)
        self.finished.set()
