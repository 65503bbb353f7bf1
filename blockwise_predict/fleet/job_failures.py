"""Jobs that ended early: what the user is told about them, and when replacing them is hopeless."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from blockwise_predict.errors import RunFailedError
from blockwise_predict.fleet.job_table import TrackedJob
from blockwise_predict.fleet.log_tail import log_tail
from blockwise_predict.fleet.queue import Job
from blockwise_predict.fleet.restarts import (
    MAX_FAILED_STARTS,
    RestartDecision,
    RestartPolicy,
    WorkerExit,
)
from blockwise_predict.scheduling.members import Membership

# Delay before jobs that ended early are replaced (seconds), see `RestartPolicy`.
FIRST_DELAY_S, LONGEST_DELAY_S = 1.0, 120.0
# The queues' names for a normal end, which the user need not hear about.
_NORMAL_ENDS = ("COMPLETED", "DONE")


class JobFailures:
    """Counts jobs that ended early; `warn` informs the user, `logs` is the folder of their logs.

    The methods return the delay (seconds) before another job is submitted, and raise RunFailedError
    when that is hopeless. `starting`: another job runs whose worker may be about to join.
    """

    def __init__(self, logs: Path, warn: Callable[[str], None]) -> None:
        self._logs = logs
        self._warn = warn
        self._policy = RestartPolicy(FIRST_DELAY_S, LONGEST_DELAY_S)

    def ended(
        self, tracked: TrackedJob, size: int, membership: Membership, *, starting: bool
    ) -> float:
        """One of `size` jobs has ended that should not have."""
        job, replaced = tracked.job, "; another one is submitted."
        joined = tracked.joined(membership)
        if not joined and not job.blameless:
            what = f"ended before its worker joined ({job.what})"
            return self.failed_start(job, what, size, membership, starting=starting)
        decision = self._count(job, size, membership, starting=starting)
        if not joined:
            self._warn(f"{_name(job)} ended before its worker joined ({job.what}){replaced}")
        elif job.what not in _NORMAL_ENDS:
            self._warn(f"{_name(job)} ended ({job.what}){replaced}")
        return decision.delay

    def failed_start(
        self, job: Job, what: str, size: int, membership: Membership, *, starting: bool
    ) -> float:
        """A job's worker has not joined, through its own fault; `what` happened instead."""
        decision = self._count(job, size, membership, starting=starting, failed_start=True)
        row = decision.failed_starts
        text = f"{_name(job)} {what}. {log_tail(self._logs, job.key)}"
        if row == 1:
            self._warn(text)
        elif row == MAX_FAILED_STARTS and membership.present:
            self._warn(
                f"{row} consecutive jobs failed to start a worker, while others work. New ones are "
                f"tried at longer and longer intervals. The last one: {text}"
            )
        return decision.delay

    def _count(
        self,
        job: Job,
        size: int,
        membership: Membership,
        *,
        starting: bool,
        failed_start: bool = False,
    ) -> RestartDecision:
        decision = self._policy.ended(
            WorkerExit(
                failed_start=failed_start,
                joins=membership.joins,
                done=membership.done,
                others_work=starting or bool(membership.present),
                size=size,
            )
        )
        if decision.hopeless is None:
            return decision
        last = f"{_name(job)} ({job.what}). {log_tail(self._logs, job.key)}"
        if decision.hopeless == "starts":
            raise RunFailedError(
                f"{decision.failed_starts} consecutive jobs failed to start a worker. The last "
                f"one: {last}"
            )
        raise RunFailedError(
            f"{decision.fruitless} jobs in a row ended with no block done in between, the last one "
            f"{last}"
        )


def _name(job: Job) -> str:
    return f"job {job.key}" + (f" on {job.host}" if job.host else "")
