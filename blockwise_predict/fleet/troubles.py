"""Workers that end before their work is done: which are bad luck, and when trying on is no use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from blockwise_predict.errors import RunFailedError
from blockwise_predict.fleet.lastwords import last_words
from blockwise_predict.fleet.queue import Job
from blockwise_predict.scheduling.members import Attendance

# So many workers in a row may end, through their own fault, before they join, if nobody else works.
FAILED_STARTS = 3
# So many jobs per worker, and so many in all, may end in a row with no block done in between.
FRUITLESS_EACH, FRUITLESS_ALL = 3, 10
# Before jobs are replaced: seconds, twice as long after each that ended without success.
FIRST_DELAY_S, LONGEST_DELAY_S = 1.0, 120.0
# What the queues call an end that nobody need be told of.
_WELL = ("COMPLETED", "DONE")


class FailedStarts:
    """Counts workers that ended before they joined, through their own fault: `row` since one last
    joined."""

    def __init__(self) -> None:
        self.row = 0
        self._joins = self._done = 0

    def another(self, attendance: Attendance, *, others: bool) -> bool:
        """Count one more. Whether all is hopeless: so many in a row, nobody is there, no block has
        been done since the last one, and no `others` are about to join. Among workers that work,
        one bad machine is no reason to stop."""
        idle = not attendance.present and attendance.done == self._done and not others
        self.row = 1 if attendance.joins > self._joins else self.row + 1
        self._joins, self._done = attendance.joins, attendance.done
        return idle and self.row >= FAILED_STARTS


class Troubles:
    """Counts the jobs that ended early; `warn` tells the user of them, `logs` holds their logs."""

    def __init__(self, logs: Path, warn: Callable[[str], None]) -> None:
        self._logs = logs
        self._warn = warn
        self._starts = FailedStarts()
        self._fruitless = 0
        self._rounds = 0
        self._done = 0

    @property
    def delay(self) -> float:
        """Seconds to wait before another job is submitted."""
        troubles = max(self._starts.row, self._rounds)
        return min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** min(troubles, 20))

    def ended(
        self, job: Job, size: int, attendance: Attendance, *, joined: bool, others: bool
    ) -> None:
        """One of `size` jobs has ended early; whether its worker had joined, and `others` are about
        to.

        Raises RunFailedError if another one would be of no use.
        """
        self._fruitless = 0 if attendance.done > self._done else self._fruitless + 1
        # All jobs may reach their time limit at once: that is one round.
        self._rounds = self._fruitless // max(1, size)
        self._done = attendance.done
        if joined:
            if job.what not in _WELL:
                self._warn(f"{_name(job)} ended ({job.what}); another one is submitted.")
        elif job.blameless:
            self._warn(
                f"{_name(job)} ended before its worker joined ({job.what}); another one is "
                "submitted."
            )
        else:
            what = f"ended before its worker joined ({job.what})"
            self.failed_to_start(job, what, attendance, others=others)
        if self._fruitless > FRUITLESS_EACH * size + FRUITLESS_ALL:
            raise RunFailedError(
                f"{self._fruitless} jobs in a row ended with no block done in between, the last "
                f"one {_name(job)} ({job.what}). {last_words(self._logs, job.key)}"
            )

    def failed_to_start(self, job: Job, what: str, attendance: Attendance, *, others: bool) -> None:
        """A job's worker has not joined, through its own fault. As `ended`."""
        hopeless = self._starts.another(attendance, others=others)
        text = f"{_name(job)} {what}. {last_words(self._logs, job.key)}"
        if hopeless:
            raise RunFailedError(
                f"{self._starts.row} jobs in a row were of no use: no worker joined. The last "
                f"one: {text}"
            )
        if self._starts.row == 1:
            self._warn(text)
        elif self._starts.row == FAILED_STARTS and attendance.present:
            self._warn(
                f"{FAILED_STARTS} jobs in a row were of no use, while others work. More are tried, "
                f"less and less often. The last one: {text}"
            )


def _name(job: Job) -> str:
    return f"job {job.key}" + (f" on {job.host}" if job.host else "")
