"""Workers as jobs of a cluster: submitted, watched, replaced, and in the end all cancelled."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

from blockwise_predict.errors import ConfigError, RunFailedError
from blockwise_predict.fleet.jobs import JobRecord
from blockwise_predict.fleet.queue import (
    ENDING_S,
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
# A job that was submitted may be missing from the queue's answers for so long (seconds).
UNSEEN_S = 60.0
# When the queue took no jobs, it is asked again after so long (seconds).
AGAIN_S = 30.0
# A queue that does not answer for so long is told of, and one that accepts no jobs stops a run
# that has no workers (seconds).
SILENT_S, REFUSING_S = 300.0, 1800.0
# Workers that were told that there is no more work have so long to end by themselves (seconds).
END_GRACE_S = 10.0


@dataclass
class Place:
    """A job of ours that has not ended: what the queue said last, and when it was submitted, was
    first seen to run, and to end."""

    job: Job
    submitted: float
    seen: bool = False
    running_since: float | None = None
    ending_since: float | None = None


class ClusterFleet:
    """Keeps `size` jobs waiting or running until told to stop. `warn` tells the user."""

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
        self._places: dict[str, Place] = {}
        # Jobs that we have ended, or whose workers were told to leave.
        self._unwanted: set[str] = set()
        self._asking = ThreadPoolExecutor(1, "queue")
        self._answer: Future[list[Job]] | None = None
        self._asked = self._heard = time.monotonic()
        self._told_of_silence = False
        self._submit_at = 0.0
        self._refused_since: float | None = None
        self._troubles = Troubles(request.logs, warn)

    @property
    def alive(self) -> int:
        """Number of jobs that wait or run."""
        return len(self._places)

    def start(self) -> None:
        """Take over what the last run left, if it is what this one wants; submit the rest.

        Raises ConfigError if the queue refuses the jobs.
        """
        try:
            left = self._queue.jobs(self._request.name)
            adopted = [job for job in left if job.state in (State.WAITING, State.RUNNING)]
            now = time.monotonic()
            self._places = {job.key: Place(job, now, seen=True) for job in adopted}
            if adopted:
                self._warn(
                    f"{len(adopted)} jobs of the last run are still in the queue: taken over."
                )
            self._cancel_surplus(Attendance())
            self._submit(self.size - self.alive)
        except QueueError as error:
            raise ConfigError(
                f"{self._queue.name} does not take the jobs of {self._request.script}:\n{error}"
            ) from None

    def check(self, attendance: Attendance) -> None:
        """Replace jobs that ended. Raises RunFailedError when that is of no use."""
        now = time.monotonic()
        if self._answer is not None and self._answer.done():
            self._hear(self._answer, attendance, now)
            self._answer = None
        if self._answer is None and now - self._asked > POLL_S:
            self._asked = now
            self._answer = self._asking.submit(self._queue.jobs, self._request.name)
        self._end_late(attendance, now)
        if self.size > self.alive and now >= self._submit_at:
            self._resubmit(now)

    def _hear(self, answer: Future[list[Job]], attendance: Attendance, now: float) -> None:
        try:
            jobs = {job.key: job for job in answer.result()}
        except QueueError as error:
            if now - self._heard > SILENT_S and not self._told_of_silence:
                self._told_of_silence = True
                self._warn(f"{self._queue.name} does not answer: {error}. Workers go on.")
            return
        self._heard, self._told_of_silence = now, False
        for job in jobs.values():
            if job.state in (State.WAITING, State.RUNNING) and job.key not in self._unwanted:
                # Also one that had ended, and was put into the queue again.
                self._see(job, now)
        for key, place in list(self._places.items()):
            gone = replace(place.job, state=State.ENDED, what="gone from the queue")
            if not place.seen and now - place.submitted < UNSEEN_S:
                gone = place.job
            job = jobs.get(key, gone)
            if job.state is State.ENDING:
                # How it ends is known only when it has; or it hangs, as its node does.
                place.ending_since = place.ending_since or now
            if job.state is State.ENDED or now - (place.ending_since or now) > ENDING_S:
                del self._places[key]
                self._bury(job, attendance, now)

    def _see(self, job: Job, now: float) -> None:
        place = self._places.setdefault(job.key, Place(job, now))
        place.job, place.seen = job, True
        if job.state is State.RUNNING:
            place.running_since = place.running_since or now
        else:
            place.running_since = None

    def _bury(self, job: Job, attendance: Attendance, now: float) -> None:
        """A job has ended, which should not have."""
        joined = job.key in attendance.joined.values()
        self._troubles.ended(job, self.size, attendance.done, joined=joined)
        self._submit_at = now + self._troubles.delay

    def _end_late(self, attendance: Attendance, now: float) -> None:
        """Cancel jobs that run and do not join."""
        for key, place in list(self._places.items()):
            since = place.running_since
            if since is None or now - since < START_S or key in attendance.joined.values():
                continue
            self._drop([key])
            self._troubles.failed_to_start(place.job, f"did not join within {START_S:g} s")

    def _resubmit(self, now: float) -> None:
        try:
            self._submit(self.size - self.alive)
            self._refused_since = None
        except QueueError as error:
            if self._refused_since is None:
                self._refused_since = now
                self._warn(f"{self._queue.name} takes no jobs now: {error}")
            if not self.alive and now - self._refused_since > REFUSING_S:
                raise RunFailedError(
                    f"{self._queue.name} takes no jobs, and none is left: {error}"
                ) from None
            self._submit_at = now + AGAIN_S

    def _submit(self, count: int) -> None:
        """Submit so many jobs."""
        while count > 0:
            part = min(count, LARGEST_ARRAY)
            job = self._queue.submit(replace(self._request, count=part))
            self._record.add(job)
            now = time.monotonic()
            # An answer that is under way does not know of them.
            self._answer = None
            for key in self._queue.keys(job, part):
                self._places[key] = Place(Job(key, State.WAITING, "submitted"), now)
            count -= part

    def scale(self, size: int, attendance: Attendance) -> list[int]:
        """Keep another number of workers; returns the numbers of those that are to leave."""
        self.size = size
        self._submit_at = 0.0
        return self._cancel_surplus(attendance)

    def _cancel_surplus(self, attendance: Attendance) -> list[int]:
        """Cancel what is too much: jobs that wait first, workers that have joined last."""
        # A copy, since the other thread goes on.
        number_of = {job: number for number, job in list(attendance.joined.items())}

        def worth(key: str) -> int:
            if key in number_of:
                return 2
            return 1 if self._places[key].job.state is State.RUNNING else 0

        surplus = sorted(self._places, key=worth)[: max(0, self.alive - self.size)]
        self._drop([key for key in surplus if key not in number_of])
        leaving = [key for key in surplus if key in number_of]
        self._unwanted.update(leaving)
        for key in leaving:
            del self._places[key]
        return [number_of[key] for key in leaving]

    def _drop(self, keys: Iterable[str]) -> None:
        """Cancel jobs; if the queue does not answer now, the end of the run does it."""
        keys = list(keys)
        if not keys:
            return
        self._unwanted.update(keys)
        for key in keys:
            self._places.pop(key, None)
        try:
            self._queue.cancel(keys)
        except QueueError as error:
            self._warn(f"{self._queue.name} did not cancel {', '.join(keys[:3])}: {error}")

    def end_worker(self, number: int, attendance: Attendance) -> None:
        """End a worker that is lost, at once."""
        key = attendance.joined.get(number, "")
        if key in self._places:
            self._drop([key])

    def drain(self, attendance: Attendance) -> None:
        """No more workers are wanted: cancel those that have not joined yet."""
        joined = set(attendance.joined.values())
        self._drop([key for key in self._places if key not in joined])

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
        self._asking.shutdown(cancel_futures=True)
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
