"""Runs a cluster queue's commands in a thread of their own, since they may hang there.

They run one after the other, in rounds: cancel and submit jobs, then list the jobs there are.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from blockwise_predict.fleet.queue import Job, Queue, Request, State, cancel_and_wait
from blockwise_predict.fleet.runner import CommandAbortedError, CommandRunner, QueueError
from blockwise_predict.fleet.waiting import StopNow, wait_until

# Once the user wants to stop at once: time for the queue to cancel the jobs, and time for the
# thread to kill a command that is abandoned (seconds).
STOP_TIMEOUT_S, KILL_S = 1.0, 0.4


@dataclass(frozen=True)
class Actions:
    """What the queue is to do: `cancel` the jobs of these keys, and take a request to `submit`."""

    cancel: tuple[str, ...] = ()
    submit: Request | None = None


@dataclass(frozen=True)
class RoundResult:
    """What came of a round's `actions`.

    `submitted` is the id of the new job array and `jobs` lists the jobs there are now; each may be
    an error instead. `begun` is when the round began, `asked` when the queue was asked for its
    jobs.
    """

    actions: Actions
    begun: float
    asked: float
    submitted: str | QueueError | None
    cancelled: QueueError | None
    jobs: list[Job] | QueueError


def run_round(queue: Queue, name: str, actions: Actions) -> RoundResult:
    """Have a queue cancel and submit, and list the jobs called `name`.

    The list comes last, so that it includes whatever was submitted.
    """
    begun = time.monotonic()
    cancelled: QueueError | None = None
    submitted: str | QueueError | None = None
    jobs: list[Job] | QueueError
    if actions.cancel:
        try:
            queue.cancel(actions.cancel)
        except QueueError as error:
            cancelled = error
    if actions.submit is not None:
        try:
            submitted = queue.submit(actions.submit)
        except QueueError as error:
            submitted = error
    asked = time.monotonic()
    try:
        jobs = queue.jobs(name)
    except QueueError as error:
        jobs = error
    return RoundResult(actions, begun, asked, submitted, cancelled, jobs)


class QueueThread:
    """Talks to a queue about the jobs called `name`; `begun` is when the last round began.

    `make_queue` makes the queue from what runs its commands.
    """

    def __init__(self, make_queue: Callable[[CommandRunner], Queue], name: str) -> None:
        self.name = name
        self._aborted = threading.Event()
        self._make_queue = make_queue
        self.queue = make_queue(CommandRunner(self._aborted.is_set))
        self._thread = ThreadPoolExecutor(1, "queue")
        self._round: Future[RoundResult] | None = None
        self._final: Future[int] | None = None
        self._submitting = False
        self.begun = time.monotonic()

    @property
    def busy(self) -> bool:
        """Whether a round is under way, or its result has not been taken."""
        return self._round is not None

    def begin(self, actions: Actions) -> None:
        """Begin a round; the thread must not be busy."""
        self.begun, self._submitting = time.monotonic(), actions.submit is not None
        self._round = self._thread.submit(run_round, self.queue, self.name, actions)

    def take_result(self) -> RoundResult | None:
        """The result of a round that has ended, handed out once."""
        if self._round is None or not self._round.done():
            return None
        result, self._round = self._round.result(), None
        return result

    def wait_for_result(self, stop_now: StopNow) -> RoundResult | None:
        """Wait for the round to end, and take its result; None if `stop_now` comes first."""
        round_ = self._round
        if round_ is not None:
            wait_until(round_.done, math.inf, stop_now)
        return self.take_result()

    def cancel_all(self, stop_now: StopNow) -> int:
        """Cancel all jobs, and wait until none is left in the queue; nothing may follow.

        After `stop_now`, commands under way are killed, and jobs are cancelled without waiting.
        Returns how many are left. Raises QueueError if the queue does not answer, or more jobs may
        yet appear.
        """
        self._final = self._thread.submit(cancel_and_wait, self.queue, self.name)
        try:
            if wait_until(self._final.done, math.inf, stop_now):
                return self._final.result()
        finally:
            self.abandon()
        queue = self._make_queue(CommandRunner(until=time.monotonic() + STOP_TIMEOUT_S))
        queue.cancel_all(self.name)
        if self.busy and self._submitting:
            raise CommandAbortedError("the submission that was under way may yet have been taken")
        return sum(job.state is not State.ENDED for job in queue.jobs(self.name))

    def abandon(self) -> None:
        """Kill the command that runs, and run no other one."""
        self._aborted.set()
        self._thread.shutdown(wait=False, cancel_futures=True)
        futures = [future for future in (self._round, self._final) if future is not None]
        # This process may end right after this, and must not leave a command behind.
        wait_until(lambda: all(future.done() for future in futures), KILL_S, lambda: False)
