"""Workers as jobs of a cluster: submitted, watched, replaced, and in the end all cancelled."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Collection
from dataclasses import replace

from blockwise_predict.errors import ConfigError, RunFailedError
from blockwise_predict.fleet.desk import Desk, Orders, Report
from blockwise_predict.fleet.jobs import JobRecord
from blockwise_predict.fleet.losses import Losses
from blockwise_predict.fleet.places import Place, Places
from blockwise_predict.fleet.queue import LARGEST_ARRAY, VANISH_POLL_S, Job, Queue, Request
from blockwise_predict.fleet.runner import CommandRunner, QueueError
from blockwise_predict.fleet.waiting import Hurry, wait_until
from blockwise_predict.scheduling.members import Attendance, Changes

# Interval at which the queue is asked for its jobs (seconds).
POLL_S = 5.0
# Time within which the worker of a running job must join (seconds).
START_S = 900.0
# Interval between submissions while the queue refuses them (seconds).
AGAIN_S = 30.0
# Silence of the queue after which the user is told, and refusals after which a run that has no
# workers stops (seconds).
SILENT_S, REFUSING_S = 300.0, 1800.0
# Time for workers to end by themselves when there is no more work (seconds).
END_GRACE_S = 10.0


class ClusterFleet:
    """Keeps `size` jobs waiting or running until told to stop. `warn` tells the user.

    A throttle limits how many jobs of one array run at once. Jobs of another array would run beside
    them, so others are submitted only when no more than that are left.
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
        self._desk = Desk(make_queue, request.name)
        self._name = self._desk.queue.name
        self._request = request
        self._record = record
        self._warn = warn
        now = time.monotonic()
        self._places = Places(now)
        self._losses = Losses(request.logs, warn)
        # Between rounds of talk with the queue; and whether one must not wait for its time.
        self._interval = POLL_S
        self._urgent = False
        # For when the queue answered last, and when it did.
        self._known = self._heard = now
        self._told: set[str] = set()
        self._submit_at = 0.0
        self._refused_at: float | None = None
        self._refused_since: float | None = None

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

    def start(self, hurry: Hurry) -> None:
        """Take over what the last run left, if it is what this one wants; submit the rest.

        Raises ConfigError if the queue refuses the jobs. Returns early if there is a `hurry`.
        """
        nobody = Attendance()
        self._desk.begin(Orders())
        report = self._desk.wait(hurry)
        if report is None:
            return
        self._must_be_taken(report.jobs)
        self._take_in(report, nobody)
        if left := len(self._places):
            self._warn(f"{left} jobs of the last run are still in the queue: taken over.")
        self._desk.begin(self._next_orders(nobody))
        report = self._desk.wait(hurry)
        if report is not None:
            self._must_be_taken(report.submitted)
            self._take_in(report, nobody)

    def _must_be_taken(self, answer: object) -> None:
        if isinstance(answer, QueueError):
            raise ConfigError(
                f"{self._name} does not take the jobs of {self._request.script}:\n{answer}"
            )

    def check(self, attendance: Attendance) -> Changes:
        """Take in what the queue has said, and have jobs that ended replaced.

        Raises RunFailedError when that is hopeless; not after `drain`.
        """
        report = self._desk.report()
        changes = Changes() if report is None else self._take_in(report, attendance)
        if not self._desk.busy:
            orders = self._next_orders(attendance)
            late = time.monotonic() - self._desk.begun > self._interval
            if late or self._urgent or orders.submit is not None:
                self._urgent = False
                self._desk.begin(orders)
        return changes

    def _next_orders(self, attendance: Attendance) -> Orders:
        """What the queue is to do now. What is to be cancelled is, until it is gone."""
        cancel = self._places.to_cancel(attendance, time.monotonic())
        count = min(self._missing, LARGEST_ARRAY)
        # A submission that was refused, or not answered, may have been taken all the same.
        doubtful = self._refused_at is not None and self._known <= self._refused_at
        if not count or time.monotonic() < self._submit_at or doubtful:
            return Orders(cancel)
        return Orders(cancel, replace(self._request, count=count))

    def _take_in(self, report: Report, attendance: Attendance) -> Changes:
        """Take in what came of a round."""
        if report.cancelled is not None:
            keys = ", ".join(report.orders.cancel[:3])
            self._tell_once("cancel", f"{self._name} did not cancel {keys}: {report.cancelled}")
        elif report.orders.cancel:
            self._told.discard("cancel")
        if isinstance(report.submitted, QueueError):
            self._not_taken(report.submitted, attendance, report.asked)
        elif report.submitted is not None:
            self._taken(report, report.submitted)
        if isinstance(report.jobs, QueueError):
            if time.monotonic() - self._heard > SILENT_S:
                text = f"{self._name} does not answer: {report.jobs}. Workers go on."
                self._tell_once("silence", text)
            return Changes()
        self._known, self._heard = report.asked, time.monotonic()
        self._told.discard("silence")
        return self._see(report.jobs, attendance, report.asked)

    def _tell_once(self, what: str, text: str) -> None:
        if what not in self._told:
            self._told.add(what)
            self._warn(text)

    def _taken(self, report: Report, job: str) -> None:
        """The queue has taken jobs."""
        assert report.orders.submit is not None
        self._refused_at = self._refused_since = None
        self._places.add(self._desk.queue.keys(job, report.orders.submit.count), report.begun)
        self._record.add(job)

    def _not_taken(self, error: QueueError, attendance: Attendance, asked: float) -> None:
        """The queue has refused jobs, or not said that it took them."""
        self._refused_at = asked
        if self._refused_since is None:
            self._refused_since = asked
            self._warn(f"{self._name} takes no jobs now: {error}")
        nobody = not self.alive and not attendance.present
        if nobody and asked - self._refused_since > REFUSING_S:
            raise RunFailedError(f"{self._name} takes no jobs, and none is left: {error}")
        self._submit_at = time.monotonic() + AGAIN_S

    def _see(self, jobs: list[Job], attendance: Attendance, asked: float) -> Changes:
        """Take in which jobs there were when the queue was asked."""
        ended = self._places.update(jobs, asked)
        for place in ended:
            if not place.unwanted:
                starting = self._places.starting(attendance)
                self._wait(self._losses.ended(place, self.size, attendance, starting=starting))
        held = [place.job for place in self._places.wanted() if place.job.held]
        if held:
            self._tell_once(
                "held",
                f"{len(held)} jobs are held, and wait until somebody releases them: {held[0].key} "
                f"({held[0].held})",
            )
        self._end_late(attendance, asked)
        self._give_up_surplus(attendance)
        return Changes(self._places.leaving(attendance), _gone(ended, attendance, asked))

    def _wait(self, seconds: float) -> None:
        """Submit no jobs for some time."""
        self._submit_at = max(self._submit_at, time.monotonic() + seconds)

    def _end_late(self, attendance: Attendance, now: float) -> None:
        """Give up jobs that run and do not join."""
        if "" in attendance.jobs:
            return  # A worker that cannot know its job, in a container, may be that of any.
        for place in self._places.wanted():
            job, since = place.job, place.running_since
            if since is None or now - since < START_S:
                continue
            if not place.joined(attendance):
                place.unwanted = self._urgent = True
                what = f"did not join within {START_S:g} s"
                starting = self._places.starting(attendance)
                self._wait(
                    self._losses.failed_start(job, what, self.size, attendance, starting=starting)
                )

    def scale(self, size: int, attendance: Attendance) -> Changes:
        """Keep another number of workers."""
        self.size = size
        self._submit_at = 0.0
        self._give_up_surplus(attendance)
        return Changes(leaving=self._places.leaving(attendance))

    def _give_up_surplus(self, attendance: Attendance) -> None:
        """Too many are to end: jobs that wait first, workers that are there last."""
        for place in self._places.surplus(self.size, attendance.numbers):
            place.unwanted = self._urgent = True

    def end_workers(self, numbers: Collection[int], attendance: Attendance) -> None:
        """End workers that are lost, all by one command."""
        for number in numbers:
            worker = attendance.workers.get(number)
            if worker is not None and worker.job in self._places:
                place = self._places[worker.job]
                place.unwanted = place.lost = self._urgent = True

    def drain(self, attendance: Attendance) -> None:
        """No more workers are wanted: those that have not joined yet are cancelled."""
        self.size = 0
        self._give_up_surplus(attendance)

    def finish(self, attendance: Callable[[], Attendance], hurry: Hurry) -> None:
        """Wait for workers that have no more work, so that their jobs end well."""
        self.drain(attendance())
        self._interval = VANISH_POLL_S

        def all_ended() -> bool:
            self.check(attendance())
            return not attendance().present and not self._places.running

        wait_until(all_ended, END_GRACE_S, hurry)

    def kill(self, hurry: Hurry) -> None:
        """Cancel all jobs, and wait until none is left in the queue; in a `hurry`, only cancel."""
        name = self._request.name
        try:
            left = self._desk.cancel_all(hurry)
        except QueueError as error:
            command = shlex.join(self._desk.queue.cancel_command(name))
            self._warn(
                f"{self._name} did not cancel the jobs named {name}: {error}\nThe next run does "
                f"it; or do it yourself with: {command}\nA worker that finds no scheduler ends by "
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
        self._desk.abandon()


def _gone(ended: list[Place], attendance: Attendance, asked: float) -> tuple[int, ...]:
    """The numbers of workers that are there, as far as is known, though their jobs have ended."""
    keys = [place.job.key for place in ended if not place.hangs]
    numbers = [attendance.numbers[key] for key in keys if key in attendance.numbers]
    # One that has joined since the queue was asked is that of a job that was put back.
    return tuple(number for number in numbers if attendance.workers[number].since < asked)
