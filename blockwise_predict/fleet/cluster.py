"""Workers as jobs of a cluster: submitted, watched, replaced, and in the end all cancelled."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

from blockwise_predict.errors import ConfigError, RunFailedError
from blockwise_predict.fleet.jobs import JobRecord
from blockwise_predict.fleet.places import Places
from blockwise_predict.fleet.queue import (
    LARGEST_ARRAY,
    VANISH_POLL_S,
    Job,
    Queue,
    QueueError,
    Request,
    State,
    cancel_and_wait,
)
from blockwise_predict.fleet.troubles import Troubles
from blockwise_predict.scheduling.members import Attendance

# The queue is asked so often (seconds).
POLL_S = 5.0
# A job that runs for so long and whose worker has not joined hangs (seconds).
START_S = 900.0
# When the queue took no jobs, it is asked again after so long (seconds).
AGAIN_S = 30.0
# A queue that does not answer for so long is told of, and one that accepts no jobs stops a run
# that has no workers (seconds).
SILENT_S, REFUSING_S = 300.0, 1800.0
# Workers that were told that there is no more work have so long to end by themselves (seconds).
END_GRACE_S = 10.0


class ClusterFleet:
    """Keeps `size` jobs waiting or running until told to stop. `warn` tells the user.

    With a throttle, so many of one job array run at once. Jobs of another array would run beside
    them, so others are submitted only when no more than that are left.
    """

    listens_on = "0.0.0.0"
    first_free = 0

    def __init__(
        self, queue: Queue, request: Request, record: JobRecord, warn: Callable[[str], None]
    ) -> None:
        self.size = request.config.workers
        self._queue = queue
        self._request = request
        self._record = record
        self._warn = warn
        self._places = Places()
        self._asking = ThreadPoolExecutor(1, "queue")
        self._answer: Future[list[Job]] | None = None
        # When the queue was asked last, when for what it answered last, and when it did.
        self._asked = self._known = self._heard = time.monotonic()
        self._told_of_silence = self._told_of_held = False
        self._submit_at = 0.0
        self._refused_at: float | None = None
        self._refused_since: float | None = None
        self._troubles = Troubles(request.logs, warn)

    @property
    def alive(self) -> int:
        """Number of jobs that wait or run."""
        return sum(1 for _ in self._places.wanted())

    @property
    def _missing(self) -> int:
        """Number of jobs to submit."""
        throttle = self._request.config.throttle
        most = self.size if throttle is None or not self._places else min(self.size, throttle)
        return max(0, most - self.alive)

    def start(self) -> None:
        """Take over what the last run left, if it is what this one wants; submit the rest.

        Raises ConfigError if the queue refuses the jobs.
        """
        try:
            self._places.update(self._queue.jobs(self._request.name), time.monotonic())
            if left := len(self._places):
                self._warn(f"{left} jobs of the last run are still in the queue: taken over.")
            self._end_surplus(Attendance())
            self._submit()
        except QueueError as error:
            raise ConfigError(
                f"{self._queue.name} does not take the jobs of {self._request.script}:\n{error}"
            ) from None

    def check(self, attendance: Attendance) -> list[int]:
        """Replace jobs that ended; returns the numbers of workers that are to leave.

        Raises RunFailedError when replacing is of no use.
        """
        now = time.monotonic()
        leaving = []
        if self._answer is not None and self._answer.done():
            if self._hear(self._answer, attendance, now):
                leaving = self._end_surplus(attendance)
            self._answer = None
        if self._answer is None and now - self._asked > POLL_S:
            self._asked = now
            self._answer = self._asking.submit(self._queue.jobs, self._request.name)
        self._end_late(attendance, now)
        # A submission that was refused, or not answered, may have been taken all the same.
        doubtful = self._refused_at is not None and self._known <= self._refused_at
        if self._missing and now >= self._submit_at and not doubtful:
            self._resubmit(attendance, now)
        return leaving

    def _hear(self, answer: Future[list[Job]], attendance: Attendance, now: float) -> bool:
        """Take in what the queue says; whether it has said anything."""
        try:
            jobs = answer.result()
        except QueueError as error:
            if now - self._heard > SILENT_S and not self._told_of_silence:
                self._told_of_silence = True
                self._warn(f"{self._queue.name} does not answer: {error}. Workers go on.")
            return False
        self._heard, self._known, self._told_of_silence = now, self._asked, False
        for job in self._places.update(jobs, now):
            self._bury(job, attendance, now)
        self._tell_of_held()
        return True

    def _tell_of_held(self) -> None:
        held = [place.job for place in self._places.wanted() if place.job.held]
        if held and not self._told_of_held:
            self._told_of_held = True
            self._warn(
                f"{len(held)} jobs are held, and wait until somebody releases them: {held[0].key} "
                f"({held[0].held})"
            )

    def _bury(self, job: Job, attendance: Attendance, now: float) -> None:
        """A job has ended, which should not have."""
        joined = job.key in attendance.joined.values()
        others = self._others_start(attendance)
        self._troubles.ended(job, self.size, attendance, joined=joined, others=others)
        self._submit_at = now + self._troubles.delay

    def _end_late(self, attendance: Attendance, now: float) -> None:
        """Cancel jobs that run and do not join."""
        joined = set(attendance.joined.values())
        if "" in joined:
            return  # A worker that cannot know its job, in a container, may be that of any.
        for place in self._places.wanted():
            since = place.running_since
            if since is None or now - since < START_S or place.job.key in joined:
                continue
            place.unwanted = True
            self._cancel([place.job.key])
            what = f"did not join within {START_S:g} s"
            others = self._others_start(attendance)
            self._troubles.failed_to_start(place.job, what, attendance, others=others)

    def _others_start(self, attendance: Attendance) -> bool:
        """Whether a job runs whose worker may be about to join."""
        joined = attendance.joined.values()
        places = self._places.wanted()
        return any(p.job.state is State.RUNNING and p.job.key not in joined for p in places)

    def _resubmit(self, attendance: Attendance, now: float) -> None:
        try:
            self._submit()
            self._refused_at = self._refused_since = None
        except QueueError as error:
            self._refused_at = now
            if self._refused_since is None:
                self._refused_since = now
                self._warn(f"{self._queue.name} takes no jobs now: {error}")
            nobody = not self.alive and not attendance.present
            if nobody and now - self._refused_since > REFUSING_S:
                raise RunFailedError(
                    f"{self._queue.name} takes no jobs, and none is left: {error}"
                ) from None
            self._submit_at = now + AGAIN_S

    def _submit(self) -> None:
        """Submit what is missing, as far as one job array holds it."""
        count = min(self._missing, LARGEST_ARRAY)
        if not count:
            return
        job = self._queue.submit(replace(self._request, count=count))
        self._record.add(job)
        # An answer that is under way does not know of them.
        self._answer = None
        self._places.add(self._queue.keys(job, count), time.monotonic())

    def scale(self, size: int, attendance: Attendance) -> list[int]:
        """Keep another number of workers; returns the numbers of those that are to leave."""
        self.size = size
        self._submit_at = 0.0
        return self._end_surplus(attendance)

    def _end_surplus(self, attendance: Attendance) -> list[int]:
        """End what is too much: jobs that wait first, workers that are there last.

        Jobs without a worker are cancelled, again and again if need be. Returns the numbers of
        workers that are to leave by themselves, with what they hold done.
        """
        numbers = attendance.numbers
        for place in self._places.surplus(self.size, numbers):
            place.unwanted = True
        unwanted = self._places.unwanted()
        self._cancel([key for key in unwanted if key not in numbers])
        return [numbers[key] for key in unwanted if key in numbers]

    def _cancel(self, keys: list[str]) -> None:
        """Cancel jobs; if the queue does not answer now, this is repeated."""
        if not keys:
            return
        try:
            self._queue.cancel(keys)
        except QueueError as error:
            self._warn(f"{self._queue.name} did not cancel {', '.join(keys[:3])}: {error}")

    def end_worker(self, number: int, attendance: Attendance) -> None:
        """End a worker that is lost, at once."""
        key = attendance.joined.get(number, "")
        if key in self._places:
            self._places[key].unwanted = True
            self._cancel([key])

    def drain(self, attendance: Attendance) -> None:
        """No more workers are wanted: cancel those that have not joined yet."""
        self.size = 0
        self._end_surplus(attendance)

    def finish(self, attendance: Attendance) -> None:
        """Wait for workers that have no more work, so that their jobs end well."""
        self.drain(attendance)
        deadline = time.monotonic() + END_GRACE_S
        while attendance.present and time.monotonic() < deadline:
            time.sleep(0.05)
        with contextlib.suppress(QueueError):
            while self._running() and time.monotonic() < deadline:
                time.sleep(VANISH_POLL_S)

    def _running(self) -> bool:
        jobs = self._queue.jobs(self._request.name)
        return any(job.state is State.RUNNING for job in jobs)

    def kill(self) -> None:
        """Cancel all jobs, and wait until none is left in the queue."""
        self.abandon()
        try:
            left = cancel_and_wait(self._queue, self._request.name)
        except QueueError as error:
            self._warn(
                f"{self._queue.name} did not cancel the jobs named {self._request.name}: {error}\n"
                "The next run does it; a worker that finds no scheduler ends by itself."
            )
            return
        if left:
            self._warn(
                f"{left} jobs named {self._request.name} are cancelled, but still in "
                f"{self._queue.name}'s queue."
            )
        else:
            self._record.clear()

    def abandon(self) -> None:
        """Leave the jobs to the run that has taken over."""
        self._asking.shutdown(cancel_futures=True)
