"""The interface to a cluster's queue, which `slurm` and `lsf` implement."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol

from blockwise_predict.config.model import RunConfig
from blockwise_predict.errors import ConfigError
from blockwise_predict.fleet.runner import CommandAbortedError, NoQueueError, QueueError
from blockwise_predict.fleet.timelimits import TimeLimit

# Time for cancelled jobs to leave the queue, and interval at which it is polled (seconds).
CANCEL_TIMEOUT_S, CANCEL_POLL_S = 60.0, 0.5
# Time to wait for jobs that are about to end (seconds).
ENDING_TIMEOUT_S = 20.0
# Default limit of a job array's size, both in Slurm and in LSF.
LARGEST_ARRAY = 1000


class State(Enum):
    """State of a job. One that is `ENDING` is still in the queue, but does no work."""

    WAITING = "waiting"
    RUNNING = "running"
    ENDING = "ending"
    ENDED = "ended"


@dataclass(frozen=True)
class Job:
    """One element of a job array.

    `key` is its name in the worker and in logs (`slurm-12_3`), `what` the queue's own name for its
    state, `host` where it runs or ran, and `blameless` whether it ended through no fault of its
    own: it was preempted or cancelled, or its node failed. If it is held until somebody releases
    it, `held` is the reason.
    """

    key: str
    state: State
    what: str
    host: str = ""
    blameless: bool = False
    held: str = ""


@dataclass(frozen=True)
class Request:
    """What to submit: `count` workers as jobs of one `name`, started by a job script."""

    script: Path
    name: str
    count: int
    logs: Path
    config: RunConfig
    environment: Mapping[str, str]


class Queue(Protocol):
    """A cluster's queue. All methods raise QueueError when it does not answer, or refuses."""

    @property
    def name(self) -> str:
        """Its name in messages."""

    @property
    def commands(self) -> tuple[str, ...]:
        """The commands that this machine must have."""

    def check(self, request: Request) -> str | None:
        """Why a request would be accepted but could not run now; None if it could.

        Raises QueueError if it would be refused, as far as that can be known.
        """

    def time_limit(self, request: Request) -> TimeLimit | None:
        """The jobs' time limit and the warning before it; None if either is unknown."""

    def command(self, request: Request) -> list[str]:
        """The command that submits a request."""

    def submit(self, request: Request) -> str:
        """Submit a job array; returns its id."""

    def keys(self, job: str, count: int) -> list[str]:
        """The keys of a new job array's elements."""

    def jobs(self, name: str) -> list[Job]:
        """This user's jobs of a name, including those that ended recently."""

    def cancel(self, keys: Sequence[str]) -> None:
        """Cancel these jobs, waiting or running."""

    def cancel_all(self, name: str) -> None:
        """Cancel all of this user's jobs of a name."""

    def cancel_command(self, name: str) -> list[str]:
        """The command that does that."""


def cancel_and_wait(queue: Queue, name: str) -> int:
    """Cancel all jobs of a name; returns how many still wait or run after `CANCEL_TIMEOUT_S`.

    Raises QueueError if the queue does not answer within that time.
    """
    begun = time.monotonic()
    while True:
        waited = time.monotonic() - begun
        try:
            # Cancel in every round, since the list of jobs may be older than the last submission;
            # and also those that are about to end, since they might be requeued.
            queue.cancel_all(name)
            states = [job.state for job in queue.jobs(name) if job.state is not State.ENDED]
            left = sum(state is not State.ENDING for state in states)
            # Jobs that are about to end do so by themselves, but only once their nodes answer.
            if not states or waited > CANCEL_TIMEOUT_S or (not left and waited > ENDING_TIMEOUT_S):
                return left
        except (NoQueueError, CommandAbortedError):
            raise
        except QueueError:
            if waited > CANCEL_TIMEOUT_S:
                raise
        time.sleep(CANCEL_POLL_S)


def require_commands(queue: Queue) -> None:
    """Raise ConfigError if this machine does not have the queue's commands."""
    absent = [command for command in queue.commands if shutil.which(command) is None]
    if absent:
        raise ConfigError(
            f"--fleet {queue.name.lower()}: {', '.join(absent)} not found on this machine. Run "
            "this where jobs are submitted (a login node, or a job that may submit others)."
        )


def environment_without(prefixes: Sequence[str], keep: Sequence[str] = ()) -> dict[str, str]:
    """This process's environment without variables that begin with any of `prefixes`, except those
    to `keep`: what belongs to the job that it may run in must not reach other jobs."""
    return {
        key: value
        for key, value in os.environ.items()
        if key in keep or not key.startswith(tuple(prefixes))
    }
