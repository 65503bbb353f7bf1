"""What a fleet asks of a cluster's queue; `slurm` and `lsf` answer."""

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
from blockwise_predict.fleet.runner import GivenUpError, NoQueueError, QueueError
from blockwise_predict.fleet.timelimits import TimeLimit

# Time for cancelled jobs to vanish from the queue, and interval at which it is asked (seconds).
VANISH_S, VANISH_POLL_S = 60.0, 0.5
# Time for which jobs that are about to end are waited for (seconds).
ENDING_S = 20.0
# More would be too many for one job array by default, with Slurm and with LSF.
LARGEST_ARRAY = 1000


class State(Enum):
    """Where a job is: `ENDING` ones still count in the queue, but do no work."""

    WAITING = "waiting"
    RUNNING = "running"
    ENDING = "ending"
    ENDED = "ended"


@dataclass(frozen=True)
class Job:
    """One element of a job array.

    `key` is how its worker and its logs call it (`slurm-12_3`), `what` the queue's own word for its
    state, `host` where it runs or ran, and `blameless` whether it ended for no fault of its own:
    it was preempted, cancelled, or its node failed. `held` says why it waits until somebody
    releases it, if it does.
    """

    key: str
    state: State
    what: str
    host: str = ""
    blameless: bool = False
    held: str = ""


@dataclass(frozen=True)
class Request:
    """What to submit: `count` workers by a job script, as jobs of one `name`."""

    script: Path
    name: str
    count: int
    logs: Path
    config: RunConfig
    environment: Mapping[str, str]


class Queue(Protocol):
    """A cluster's queue. All raise QueueError when it does not answer, or refuses."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def commands(self) -> tuple[str, ...]:
        """The commands that this machine must have."""

    def check(self, request: Request) -> str | None:
        """What the queue has against a request, though it would take it.

        Raises QueueError if it would be refused, as far as that can be known.
        """

    def time_limit(self, request: Request) -> TimeLimit | None:
        """How long jobs may take, and when they are told to end, as far as that is known."""

    def command(self, request: Request) -> list[str]:
        """The words that submit a request."""

    def submit(self, request: Request) -> str:
        """Submit a job array; returns its id."""

    def keys(self, job: str, count: int) -> list[str]:
        """The keys of a new job array's elements."""

    def jobs(self, name: str) -> list[Job]:
        """This user's jobs of a name: those that have not ended, and the last ones that have."""

    def cancel(self, keys: Sequence[str]) -> None:
        """Cancel these jobs, waiting or running."""

    def cancel_all(self, name: str) -> None:
        """Cancel all of this user's jobs of a name."""

    def cancel_command(self, name: str) -> list[str]:
        """The words that do that."""


def cancel_and_wait(queue: Queue, name: str) -> int:
    """Cancel all jobs of a name; returns how many wait or run all the same after a while.

    Raises QueueError if the queue does not answer for so long.
    """
    begun = time.monotonic()
    while True:
        waited = time.monotonic() - begun
        try:
            # First of all, since an answer may be older than the last jobs; and also those that
            # are about to end: they may be about to wait again.
            queue.cancel_all(name)
            states = [job.state for job in queue.jobs(name) if job.state is not State.ENDED]
            left = sum(state is not State.ENDING for state in states)
            # Those that are about to end do so without us, and not before their nodes answer.
            if not states or waited > VANISH_S or (not left and waited > ENDING_S):
                return left
        except (NoQueueError, GivenUpError):
            raise
        except QueueError:
            if waited > VANISH_S:
                raise
        time.sleep(VANISH_POLL_S)


def require_commands(queue: Queue) -> None:
    """Raise ConfigError if this machine does not have the queue's commands."""
    absent = [command for command in queue.commands if shutil.which(command) is None]
    if absent:
        raise ConfigError(
            f"--fleet {queue.name.lower()}: {', '.join(absent)} not found on this machine. Run "
            "this where jobs are submitted (a login node, or a job that may submit others)."
        )


def environment_without(prefixes: Sequence[str], keep: Sequence[str] = ()) -> dict[str, str]:
    """This process's environment, less what a job that it may run in would pass on to others."""
    return {
        key: value
        for key, value in os.environ.items()
        if key in keep or not key.startswith(tuple(prefixes))
    }
