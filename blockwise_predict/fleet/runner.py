"""Runs the commands of a cluster's queue, which may hang for as long as the queue does."""

from __future__ import annotations

import logging
import math
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

# Timeout of one command, and the interval at which a running one is polled (seconds).
TIMEOUT_S, POLL_S = 60.0, 0.05
# Commands that only ask for the state of jobs, every few seconds.
_QUERIES = ("squeue", "bjobs")
_LOGGER = logging.getLogger(__name__)


class QueueError(Exception):
    """The queue does not answer, or has refused something; the text is what it printed."""


class NoQueueError(QueueError):
    """This machine does not have the queue's commands."""


class CommandAbortedError(QueueError):
    """A command was abandoned because the user wants to stop at once."""


@dataclass(frozen=True)
class CommandRunner:
    """Runs commands, each for at most `TIMEOUT_S` and none beyond `until` (`time.monotonic()`).

    `aborted` tells it to abandon commands. One that is abandoned is killed together with all that
    it has started, however it treats signals.
    """

    aborted: Callable[[], bool] = lambda: False
    until: float = math.inf

    def __call__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
        stdin: str | None = None,
    ) -> str:
        """What a command prints. Raises QueueError with its last lines if it fails."""
        if self.aborted():
            raise CommandAbortedError(f"{command[0]} was not run")
        if command[0] not in _QUERIES:
            _LOGGER.debug("running %s", shlex.join(command))
        try:
            process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                # Ctrl-C in the terminal must not interrupt the command that cancels the jobs.
                start_new_session=True,
            )
        except OSError as error:
            raise NoQueueError(f"{command[0]} cannot be run ({error.strerror})") from None
        try:
            out, err = self._communicate(process, command[0], stdin)
        except BaseException:
            _kill(process)
            raise
        if process.returncode:
            lines = (err.strip() or out.strip()).splitlines()
            text = "\n".join(lines[-5:]) or f"{shlex.join(command)}: code {process.returncode}"
            raise QueueError(text)
        return out

    def _communicate(
        self, process: subprocess.Popen[str], name: str, stdin: str | None
    ) -> tuple[str, str]:
        begun = time.monotonic()
        deadline = min(begun + TIMEOUT_S, self.until)
        while True:
            try:
                return process.communicate(stdin, timeout=POLL_S)
            except subprocess.TimeoutExpired:
                stdin = None  # The first call has taken it.
            now = time.monotonic()
            if self.aborted():
                raise CommandAbortedError(f"{name} had not answered after {now - begun:.1f} s")
            if now > deadline:
                raise QueueError(f"{name} has not answered for {now - begun:.0f} s")


def _kill(process: subprocess.Popen[str]) -> None:
    """Kill a process and all that it has started, without waiting for one that the kernel holds."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()
    with suppress(subprocess.TimeoutExpired):
        process.wait(POLL_S)
