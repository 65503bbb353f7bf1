"""What the scheduler's two threads tell each other."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from queue import SimpleQueue

from blockwise_predict.errors import first_error
from blockwise_predict.scheduling.members import Attendance, Counts


@dataclass
class Status:
    """Where a run stands; written by the thread that serves the workers, read by the other.

    `reason` says why the run has to stop early, `error` what went wrong in the serving itself.
    `attendance` is what the fleet has to know of its workers; `lost` receives those that are to be
    ended. `finished` is set at the end, whatever that is. `shares` are, then, the workers' busy
    shares.
    """

    counts: Counts = field(default_factory=lambda: Counts(0, 0, 0, 0))
    reason: str | None = None
    error: BaseException | None = None
    attendance: Attendance = field(default_factory=Attendance)
    lost: SimpleQueue[int] = field(default_factory=SimpleQueue)
    shares: dict[int, float] = field(default_factory=dict)
    finished: threading.Event = field(default_factory=threading.Event)

    def fail(self, error: BaseException) -> None:
        """Something went wrong that the run cannot go on with; of several things, the first."""
        self.error = self.error or first_error(error)
        self.finished.set()
