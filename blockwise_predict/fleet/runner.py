"""Runs the commands of a cluster's queue, which may hang for as long as the queue does."""

from __future__ import annotations

import math
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

# Patience with one command, and the interval at which a running one is looked at (seconds).
PATIENCE_S, LOOK_S = 60.0, 0.05


class QueueError(Exception):
    """The queue does not answer, or has refused something; says what it said."""


class NoQueueError(QueueError):
    """This machine does not have the queue's commands."""


class GivenUpError(QueueError):
    """A command was not waited for any longer, since the user is in a hurry."""


@dataclass(frozen=True)
class CommandRunner:
    """Runs commands, each for `PATIENCE_S` at most and none beyond `until` (`time.monotonic()`).

    `given_up` says that nobody waits for them any longer. A command that is not waited for is
    killed, with all that it has started, whatever it does about signals.
    """

    given_up: Callable[[], bool] = lambda: False
    until: float = math.inf

    def __call__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
        stdin: str | None = None,
    ) -> str:
        """What a command prints. Raises QueueError with what it says if it fails."""
        if self.given_up():
            raise GivenUpError(f"{command[0]} was not run any more")
        try:
            process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                # Ctrl-C in the terminal is meant for us: what is being cancelled must be cancelled.
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
            said = (err.strip() or out.strip()).splitlines()
            text = "\n".join(said[-5:]) or f"{shlex.join(command)}: code {process.returncode}"
            raise QueueError(text)
        return out

    def _communicate(
        self, process: subprocess.Popen[str], name: str, stdin: str | None
    ) -> tuple[str, str]:
        begun = time.monotonic()
        deadline = min(begun + PATIENCE_S, self.until)
        while True:
            try:
                return process.communicate(stdin, timeout=LOOK_S)
            except subprocess.TimeoutExpired:
                stdin = None  # It has been taken.
            now = time.monotonic()
            if self.given_up():
                raise GivenUpError(f"{name} had not answered after {now - begun:.1f} s")
            if now > deadline:
                raise QueueError(f"{name} has not answered for {now - begun:.0f} s")


def _kill(process: subprocess.Popen[str]) -> None:
    """Kill a process and what it has started; one that the system does not let go is left to it."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()
    with suppress(subprocess.TimeoutExpired):
        process.wait(LOOK_S)
