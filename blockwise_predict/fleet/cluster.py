"""Workers as jobs of a cluster: submitted, watched, replaced, and finally cancelled."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Collection
from dataclasses import replace

from blockwise_predict.errors import ConfigError, RunFailedError
from blockwise_predict.fleet.job_failures import JobFailures
from blockwise_predict.fleet.job_table import JobTable, TrackedJob
from blockwise_predict.fleet.jobs import JobRecord
from blockwise_predict.fleet.queue import CANCEL_POLL_S, LARGEST_ARRAY, Job, Queue, Request
from blockwise_predict.fleet.queue_thread import Actions, QueueThread, RoundResult
from blockwise_predict.fleet.runner import CommandRunner, QueueError
from blockwise_predict.fleet.waiting import StopNow, wait_until
from blockwise_predict.scheduling.members import Changes, Membership

# Interval at which the queue is asked for its jobs (seconds).
POLL_S = 5.0
# Time within which the worker of a running job must join (seconds).
JOIN_TIMEOUT_S = 900.0
# Interval between submissions while the queue refuses them (seconds).
RESUBMIT_S = 30.0
# How long the queue may be silent before the user is told, and how long it may refuse jobs before a
# run without workers stops (seconds).
SILENCE_WARNING_S, REFUSAL_LIMIT_S = 300.0, 1800.0
# Time for workers to exit by themselves when there are no more blocks (seconds).
EXIT_GRACE_S = 10.0


class ClusterFleet:
    """Keeps `size` jobs waiting or running until told to stop. `warn` informs the user.

    A throttle limits how many jobs of one array run at once. Jobs of another array would run in
    addition, so a new array is submitted only when at most that many jobs are left.
    """

    listens_on = "0.0.0.0"
    first_free = 0

    def __init__(
        self,
        make_queue: Callable[[CommandRunner], Queue],
        request: Request,
        record: JobRecord,
        warn: Callable[[str], None],
    ) -> None:
        self.size = request.config.workers
        self._thread = QueueThread(make_queue, request.name)
        self._name = self._thread.queue.name
        self._request = request
        self._record = record
        self._warn = warn
        now = time.monotonic()
        self._jobs = JobTable(now)
        self._failures = JobFailures(request.logs, warn)
        # Interval between rounds, and whether the next one must not wait for it.
        self._interval = POLL_S
        self._urgent = False
        # The time that the last list of jobs is valid for, and when it arrived.
        self._known = self._heard = now
        self._warned: set[str] = set()
        self._submit_at = 0.0
        self._refused_at: float | None = None
        self._refused_since: float | None = None

    @property
    def alive(self) -> int:
        """Number of jobs that wait or run."""
        return sum(1 for _ in self._jobs.wanted())

    @property
    def _missing(self) -> int:
        """Number of jobs to submit."""
        throttle = self._request.config.throttle
        target = self.size if throttle is None or not self._jobs else min(self.size, throttle)
        return max(0, target - self.alive)

    def start(self, stop_now: StopNow) -> None:
        """Take over jobs of the last run that suit this one, and submit the rest.

        Raises ConfigError if the queue refuses the jobs. Returns early after `stop_now`.
        """
        nobody = Membership()
        self._thread.begin(Actions())
        result = self._thread.wait_for_result(stop_now)
        if result is None:
            return
        self._require_accepted(result.jobs)
        self._process(result, nobody)
        if left := len(self._jobs):
            self._warn(f"{left} jobs of the last run are still in the queue: taken over.")
        self._thread.begin(self._next_actions(nobody))
        result = self._thread.wait_for_result(stop_now)
        if result is not None:
            self._require_accepted(result.submitted)
            self._process(result, nobody)

    def _require_accepted(self, answer: object) -> None:
        if isinstance(answer, QueueError):
            raise ConfigError(
                f"{self._name} does not accept the jobs of {self._request.script}:\n{answer}"
            )

    def check(self, membership: Membership) -> Changes:
        """Process the queue's last answer, and replace jobs that ended.

        Raises RunFailedError when that is hopeless; not after `drain`.
        """
        result = self._thread.take_result()
        changes = Changes() if result is None else self._process(result, membership)
        if not self._thread.busy:
            actions = self._next_actions(membership)
            due = time.monotonic() - self._thread.begun > self._interval
            if due or self._urgent or actions.submit is not None:
                self._urgent = False
                self._thread.begin(actions)
        return changes

    def _next_actions(self, membership: Membership) -> Actions:
        """What the queue is to do next. A job is cancelled in every round until it is gone."""
        now = time.monotonic()
        self._jobs.note_departures(membership, now)
        cancel = self._jobs.to_cancel(membership, now)
        count = min(self._missing, LARGEST_ARRAY)
        # A submission that was refused or not answered may have been accepted all the same.
        doubtful = self._refused_at is not None and self._known <= self._refused_at
        if not count or time.monotonic() < self._submit_at or doubtful:
            return Actions(cancel)
        return Actions(cancel, replace(self._request, count=count))

    def _process(self, result: RoundResult, membership: Membership) -> Changes:
        """Take in the result of a round."""
        if result.cancelled is not None:
            keys = ", ".join(result.actions.cancel[:3])
            self._warn_once("cancel", f"{self._name} did not cancel {keys}: {result.cancelled}")
        elif result.actions.cancel:
            self._warned.discard("cancel")
        if isinstance(result.submitted, QueueError):
            self._refused(result.submitted, membership, result.asked)
        elif result.submitted is not None:
            self._accepted(result, result.submitted)
        if isinstance(result.jobs, QueueError):
            if time.monotonic() - self._heard > SILENCE_WARNING_S:
                text = f"{self._name} does not answer: {result.jobs}. Workers go on."
                self._warn_once("silence", text)
            return Changes()
        self._known, self._heard = result.asked, time.monotonic()
        self._warned.discard("silence")
        return self._update_jobs(result.jobs, membership, result.asked)

    def _warn_once(self, what: str, text: str) -> None:
        if what not in self._warned:
            self._warned.add(what)
            self._warn(text)

    def _accepted(self, result: RoundResult, job: str) -> None:
        """The queue has accepted jobs."""
        assert result.actions.submit is not None
        self._refused_at = self._refused_since = None
        self._jobs.add(self._thread.queue.keys(job, result.actions.submit.count), result.begun)
        self._record.add(job)

    def _refused(self, error: QueueError, membership: Membership, asked: float) -> None:
        """The queue has refused jobs, or did not say that it accepted them."""
        self._refused_at = asked
        if self._refused_since is None:
            self._refused_since = asked
            self._warn(f"{self._name} takes no jobs now: {error}")
        nobody = not self.alive and not membership.present
        if nobody and asked - self._refused_since > REFUSAL_LIMIT_S:
            raise RunFailedError(f"{self._name} takes no jobs, and none is left: {error}")
        self._submit_at = time.monotonic() + RESUBMIT_S

    def _update_jobs(self, jobs: list[Job], membership: Membership, asked: float) -> Changes:
        """Take in the list of jobs, as of when it was `asked` for."""
        ended = self._jobs.update(jobs, asked)
        for tracked in ended:
            if not tracked.unwanted:
                starting = self._jobs.starting(membership)
                self._back_off(
                    self._failures.ended(tracked, self.size, membership, starting=starting)
                )
        held = [tracked.job for tracked in self._jobs.wanted() if tracked.job.held]
        if held:
            self._warn_once(
                "held",
                f"{len(held)} jobs are held, and wait until somebody releases them: {held[0].key} "
                f"({held[0].held})",
            )
        self._drop_late(membership, asked)
        self._drop_surplus(membership)
        return Changes(self._jobs.leaving(membership), _gone(ended, membership, asked))

    def _back_off(self, seconds: float) -> None:
        """Submit no jobs for some time."""
        self._submit_at = max(self._submit_at, time.monotonic() + seconds)

    def _drop_late(self, membership: Membership, now: float) -> None:
        """Give up jobs that run but whose workers do not join."""
        if "" in membership.jobs:
            return  # A worker in a container may not know its job, and could belong to any of them.
        for tracked in self._jobs.wanted():
            job, since = tracked.job, tracked.running_since
            if since is None or now - since < JOIN_TIMEOUT_S:
                continue
            if not tracked.joined(membership):
                tracked.unwanted = self._urgent = True
                what = f"did not join within {JOIN_TIMEOUT_S:g} s"
                starting = self._jobs.starting(membership)
                self._back_off(
                    self._failures.failed_start(job, what, self.size, membership, starting=starting)
                )

    def scale(self, size: int, membership: Membership) -> Changes:
        """Keep a different number of workers."""
        self.size = size
        self._submit_at = 0.0
        self._drop_surplus(membership)
        return Changes(leaving=self._jobs.leaving(membership))

    def _drop_surplus(self, membership: Membership) -> None:
        """Give up jobs in excess of `size`: waiting ones first, present workers last."""
        for tracked in self._jobs.surplus(self.size, membership.numbers):
            tracked.unwanted = self._urgent = True

    def end_workers(self, numbers: Collection[int], membership: Membership) -> None:
        """Cancel the jobs of evicted workers, all by one command."""
        for number in numbers:
            worker = membership.workers.get(number)
            if worker is not None and worker.job in self._jobs:
                tracked = self._jobs[worker.job]
                tracked.unwanted = tracked.evicted = self._urgent = True

    def drain(self, membership: Membership) -> None:
        """Submit no more jobs, and cancel those whose workers have not joined yet."""
        self.size = 0
        self._drop_surplus(membership)

    def finish(self, membership: Callable[[], Membership], stop_now: StopNow) -> None:
        """Wait for workers to exit when there are no more blocks, so that their jobs end well."""
        self.drain(membership())
        self._interval = CANCEL_POLL_S

        def all_ended() -> bool:
            self.check(membership())
            return not membership().present and not self._jobs.running

        wait_until(all_ended, EXIT_GRACE_S, stop_now)

    def kill(self, stop_now: StopNow) -> None:
        """Cancel all jobs, and wait until none is left in the queue, unless `stop_now`."""
        name = self._request.name
        try:
            left = self._thread.cancel_all(stop_now)
        except QueueError as error:
            command = shlex.join(self._thread.queue.cancel_command(name))
            self._warn(
                f"{self._name} did not cancel the jobs named {name}: {error}\nThe next run will, "
                f"or do it yourself with: {command}\nA worker that finds no scheduler ends by "
                "itself."
            )
            return
        if left:
            self._warn(
                f"{left} jobs named {name} are cancelled, but still in {self._name}'s queue."
            )
        else:
            self._record.clear()

    def abandon(self) -> None:
        """Leave the jobs to the run that has taken over."""
        self._thread.abandon()


def _gone(ended: list[TrackedJob], membership: Membership, asked: float) -> tuple[int, ...]:
    """The numbers of workers that count as present, although their jobs have ended."""
    keys = [tracked.job.key for tracked in ended if not tracked.hangs]
    numbers = [membership.numbers[key] for key in keys if key in membership.numbers]
    # A worker that has joined since the queue was asked belongs to a job that was requeued.
    return tuple(number for number in numbers if membership.workers[number].since < asked)
