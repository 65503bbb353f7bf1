"""Jobs that ended early: what the user is told of them, and when replacing them is hopeless."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from blockwise_predict.errors import RunFailedError
from blockwise_predict.fleet.lastwords import last_words
from blockwise_predict.fleet.places import Place
from blockwise_predict.fleet.queue import Job
from blockwise_predict.fleet.restarts import FAILED_STARTS, End, RestartPolicy, Verdict
from blockwise_predict.scheduling.members import Attendance

# Before jobs that ended early are replaced (seconds), see `RestartPolicy`.
FIRST_DELAY_S, LONGEST_DELAY_S = 1.0, 120.0
# What the queues call an end that nobody need be told of.
_WELL = ("COMPLETED", "DONE")


class Losses:
    """Counts the jobs that ended early; `warn` tells the user of them, `logs` holds their logs.

    Its methods return the seconds to wait before another job is submitted, and raise RunFailedError
    when that is hopeless. `starting`: another job runs whose worker may be about to join.
    """

    def __init__(self, logs: Path, warn: Callable[[str], None]) -> None:
        self._logs = logs
        self._warn = warn
        self._policy = RestartPolicy(FIRST_DELAY_S, LONGEST_DELAY_S)

    def ended(self, place: Place, size: int, attendance: Attendance, *, starting: bool) -> float:
        """One of `size` jobs has ended that should not have."""
        job, again = place.job, "; another one is submitted."
        joined = place.joined(attendance)
        if not joined and not job.blameless:
            what = f"ended before its worker joined ({job.what})"
            return self.failed_start(job, what, size, attendance, starting=starting)
        verdict = self._count(job, size, attendance, starting=starting)
        if not joined:
            self._warn(f"{_name(job)} ended before its worker joined ({job.what}){again}")
        elif job.what not in _WELL:
            self._warn(f"{_name(job)} ended ({job.what}){again}")
        return verdict.delay

    def failed_start(
        self, job: Job, what: str, size: int, attendance: Attendance, *, starting: bool
    ) -> float:
        """A job's worker has not joined, through its own fault."""
        verdict = self._count(job, size, attendance, starting=starting, failed_start=True)
        row = verdict.failed_starts
        text = f"{_name(job)} {what}. {last_words(self._logs, job.key)}"
        if row == 1:
            self._warn(text)
        elif row == FAILED_STARTS and attendance.present:
            self._warn(
                f"{row} jobs in a row were of no use, while others work. More are tried, less and "
                f"less often. The last one: {text}"
            )
        return verdict.delay

    def _count(
        self,
        job: Job,
        size: int,
        attendance: Attendance,
        *,
        starting: bool,
        failed_start: bool = False,
    ) -> Verdict:
        others_work = starting or bool(attendance.present)
        end = End(failed_start, attendance.joins, attendance.done, others_work, size)
        verdict = self._policy.ended(end)
        if verdict.hopeless is None:
            return verdict
        last = f"{_name(job)} ({job.what}). {last_words(self._logs, job.key)}"
        if verdict.hopeless == "starts":
            raise RunFailedError(
                f"{verdict.failed_starts} jobs in a row were of no use: no worker joined. The last "
                f"one: {last}"
            )
        raise RunFailedError(
            f"{verdict.fruitless} jobs in a row ended with no block done in between, the last one "
            f"{last}"
        )


def _name(job: Job) -> str:
    return f"job {job.key}" + (f" on {job.host}" if job.host else "")
