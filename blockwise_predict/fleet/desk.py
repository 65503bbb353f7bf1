"""A cluster's queue, whose commands run beside the main loop and may hang there.

They run in a thread of their own, one after the other, in rounds: what is to be cancelled and
submitted, then the question which jobs there are.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from blockwise_predict.fleet.queue import Job, Queue, Request, State, cancel_and_wait
from blockwise_predict.fleet.runner import CommandRunner, GivenUpError, QueueError
from blockwise_predict.fleet.waiting import Hurry, wait_until

# All that a user in a hurry waits for the queue, to have the jobs cancelled; and the time for the
# thread to kill a command that nobody waits for (seconds).
HURRY_S, KILL_S = 1.0, 0.4


@dataclass(frozen=True)
class Orders:
    """What the queue is to do: `cancel` the jobs of these keys, and take a request to `submit`."""

    cancel: tuple[str, ...] = ()
    submit: Request | None = None


@dataclass(frozen=True)
class Report:
    """What came of `orders`: the id of the job array that was submitted and the jobs that there are
    now, or the errors that came instead.

    `begun` is when the round began, `asked` when the queue was asked for its jobs.
    """

    orders: Orders
    begun: float
    asked: float
    submitted: str | QueueError | None
    cancelled: QueueError | None
    jobs: list[Job] | QueueError


def carry_out(queue: Queue, name: str, orders: Orders) -> Report:
    """Give orders to a queue, one after the other, and ask for the jobs of a `name`.

    That comes last, so that the answer knows of all that was submitted.
    """
    begun = time.monotonic()
    cancelled: QueueError | None = None
    submitted: str | QueueError | None = None
    jobs: list[Job] | QueueError
    if orders.cancel:
        try:
            queue.cancel(orders.cancel)
        except QueueError as error:
            cancelled = error
    if orders.submit is not None:
        try:
            submitted = queue.submit(orders.submit)
        except QueueError as error:
            submitted = error
    asked = time.monotonic()
    try:
        jobs = queue.jobs(name)
    except QueueError as error:
        jobs = error
    return Report(orders, begun, asked, submitted, cancelled, jobs)


class Desk:
    """Deals with a queue, for the jobs of a `name`; `begun` is when the last round began.

    `make_queue` makes the queue from what is to run its commands.
    """

    def __init__(self, make_queue: Callable[[CommandRunner], Queue], name: str) -> None:
        self.name = name
        self._given_up = threading.Event()
        self._make_queue = make_queue
        self.queue = make_queue(CommandRunner(self._given_up.is_set))
        self._thread = ThreadPoolExecutor(1, "queue")
        self._round: Future[Report] | None = None
        self._last: Future[int] | None = None
        self._submitting = False
        self.begun = time.monotonic()

    @property
    def busy(self) -> bool:
        """Whether a round goes on, or its report has not been taken."""
        return self._round is not None

    def begin(self, orders: Orders) -> None:
        """Begin a round; there must be none."""
        self.begun, self._submitting = time.monotonic(), orders.submit is not None
        self._round = self._thread.submit(carry_out, self.queue, self.name, orders)

    def report(self) -> Report | None:
        """What came of the round, once, when it has ended."""
        if self._round is None or not self._round.done():
            return None
        report, self._round = self._round.result(), None
        return report

    def wait(self, hurry: Hurry) -> Report | None:
        """As `report`, when the round has ended; None if somebody is in a `hurry` before that."""
        round_ = self._round
        if round_ is not None:
            wait_until(round_.done, math.inf, hurry)
        return self.report()

    def cancel_all(self, hurry: Hurry) -> int:
        """Cancel all jobs, and wait until none is left in the queue; the last that is asked of it.

        In a `hurry`, what runs is killed, and jobs are only cancelled. Returns how many are left.
        Raises QueueError if the queue does not answer, or more may come.
        """
        self._last = self._thread.submit(cancel_and_wait, self.queue, self.name)
        try:
            if wait_until(self._last.done, math.inf, hurry):
                return self._last.result()
        finally:
            self.abandon()
        queue = self._make_queue(CommandRunner(until=time.monotonic() + HURRY_S))
        queue.cancel_all(self.name)
        if self.busy and self._submitting:
            raise GivenUpError("the submission that was under way may yet have been taken")
        return sum(job.state is not State.ENDED for job in queue.jobs(self.name))

    def abandon(self) -> None:
        """Kill the command that runs, and begin no other one."""
        self._given_up.set()
        self._thread.shutdown(wait=False, cancel_futures=True)
        works = [work for work in (self._round, self._last) if work is not None]
        # This process may end right after that, and must leave no command behind.
        wait_until(lambda: all(work.done() for work in works), KILL_S, lambda: False)
