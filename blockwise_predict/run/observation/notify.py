"""Running the user's command when a run ends, fails or stalls."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from tempfile import TemporaryFile

from blockwise_predict.config.plain import plain
from blockwise_predict.config.quantities import format_seconds
from blockwise_predict.errors import shortened
from blockwise_predict.plan.model import Plan
from blockwise_predict.records.status import Counts, WorkerStatus
from blockwise_predict.run.reporter import Reporter
from blockwise_predict.run.stop import StopRequest

# Time limit of the command (seconds).
LIMIT_S = 30.0
# Interval at which its end and a request to stop are looked for (seconds).
POLL_S = 0.1
# A run with workers stalls when no block was finished for this time (seconds), and for so many
# times the median block.
STALL_S, STALL_BLOCKS = 600.0, 10
# One without workers stalls when none has joined for this time (seconds): jobs wait in queues.
ABSENT_S = 3600.0
# Interval of checks for a stall (seconds): they read files.
CHECK_S = 60.0
MAX_MESSAGE = 4000


class Notice(StrEnum):
    """What a command is told of. A run that failed may have been completed but for some blocks."""

    FINISHED = "finished"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    STALLED = "stalled"


@dataclass(frozen=True)
class ExpectedPace:
    """What a run can be expected to do.

    median: gives the median seconds from handing a block out to its end; 0 if that is unknown.
    block_timeout: seconds after which a block is taken from its worker.
    wanted: gives the number of workers that are wanted now.
    """

    median: Callable[[], float]
    block_timeout: float
    wanted: Callable[[], int]


class Notifier(Reporter):
    """Runs a command of the shell with what has happened in its environment.

    `about` are variables that stay the same. What goes wrong is a warning: the run does not depend
    on it. A `stop` that is requested while the command runs ends the waiting for it.
    """

    def __init__(
        self,
        command: str,
        about: Mapping[str, str],
        *,
        pace: ExpectedPace,
        stop: StopRequest,
        warn: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._command = command
        self._about = about
        self._pace = pace
        self._stop = stop
        self._warn = warn
        self._clock = clock
        self._counts = Counts(0, 0, 0, 0)
        self._workers: tuple[WorkerStatus, ...] = ()
        # How long workers were there since a block was finished, and how long there was none; never
        # long enough once that was told.
        self._idle = self._absent = 0.0
        self._seen = self._next_check = clock()

    def begin(self, plan: Plan, counts: Counts) -> None:  # noqa: ARG002
        """Keep the counts with which the run begins."""
        self._counts = counts

    def progress(self, counts: Counts) -> None:
        """Keep the counts, and notice a stall: once, until another block is finished."""
        now = self._clock()
        passed, self._seen = now - self._seen, now
        if counts.final != self._counts.final or counts.total != self._counts.total:
            self._idle = self._absent = 0.0
        elif self._workers:
            self._idle, self._absent = self._idle + passed, 0.0
        else:
            self._absent += passed
        self._counts = counts
        if now < self._next_check or counts.final == counts.total:
            return
        self._next_check = now + CHECK_S
        if message := self._stall():
            told = (Notice.STALLED, message)
            threading.Thread(target=self.tell, args=told, daemon=True).start()

    def workers(self, workers: tuple[WorkerStatus, ...]) -> None:
        """Keep what the workers do."""
        self._workers = workers

    def _stall(self) -> str:
        """What stalls, in words; empty if nothing does."""
        if not self._workers:
            wanted = self._pace.wanted()
            if wanted == 0:
                self._absent = 0.0
            if self._absent < ABSENT_S:
                return ""
            waited, self._absent = format_seconds(self._absent), float("-inf")
            verb = "is" if wanted == 1 else "are"
            return f"No worker has joined for {waited}: {wanted} {verb} wanted."
        if self._idle < STALL_S:
            return ""
        median = self._pace.median()
        if self._idle < (STALL_BLOCKS * median if median else self._pace.block_timeout):
            return ""
        waited, self._idle = format_seconds(self._idle), float("-inf")
        number = len(self._workers)
        holders = f"{number} workers hold" if number > 1 else "1 worker holds"
        held = self._counts.processing
        blocks = f"{held} block" if held == 1 else f"{held} blocks"
        return f"No block was finished for {waited}: {holders} {blocks}."

    @property
    def interruption(self) -> str:
        """What to say of an interruption that no result tells of."""
        if not self._counts.total:
            return "Interrupted before the first block was begun."
        return f"Interrupted: {self._counts.done} of {self._counts.total} blocks are predicted."

    def tell(self, notice: Notice, message: str) -> None:
        """Run the command, and wait for its end, for at most `LIMIT_S`."""
        counts = self._counts
        # Errors may have several lines.
        message = re.sub(r"[\t\n]+", " ", message)
        variables = {
            **self._about,
            "PREDICT_EVENT": notice,
            "PREDICT_MESSAGE": message,
            "PREDICT_BLOCKS_TOTAL": str(counts.total),
            "PREDICT_BLOCKS_DONE": str(counts.done),
            "PREDICT_BLOCKS_FAILED": str(counts.failed),
        }
        problem = run_command(self._command, variables, self._stop)
        if problem:
            self._warn(f"--notify ({notice}): the command {problem}")


def run_command(command: str, variables: Mapping[str, str], stop: StopRequest) -> str:
    """Run a command of the shell with further variables in its environment, for `LIMIT_S`.

    What went wrong, in words; empty if nothing did. The values come from files and errors, so
    control characters in them are escaped. A stop that is requested meanwhile ends the waiting,
    not the command.
    """
    environment: dict[str, str | bytes] = dict(os.environ)
    for key, text in variables.items():
        environment[key] = _encoded(plain(shortened(text, MAX_MESSAGE)))
    try:
        # Not a pipe: what the command leaves in the background may hold it open.
        with TemporaryFile() as errors:
            process = subprocess.Popen(
                ["/bin/sh", "-c", command],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                # Ctrl-C in the terminal interrupts the run, not what tells of that.
                start_new_session=True,
            )
            if problem := _wait(process, stop):
                return problem
            errors.seek(0)
            said = errors.read(MAX_MESSAGE).decode(errors="replace").strip()
    except OSError as error:
        return f"cannot be run ({error.strerror})."
    except ValueError as error:
        return f"cannot be run ({error})."
    if process.returncode == 0:
        return ""
    return f"exited with code {process.returncode}{f': {said}' if said else '.'}"


def _wait(process: subprocess.Popen[bytes], stop: StopRequest) -> str:
    """Wait for the end of the command; why it was not waited for, in words, empty if it was."""
    end, before = time.monotonic() + LIMIT_S, stop.times
    while time.monotonic() < end:
        if stop.times > before:
            return "had not ended when the run was asked to stop; it was left to itself."
        with suppress(subprocess.TimeoutExpired):
            process.wait(POLL_S)
            return ""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return f"had not ended after {LIMIT_S:g} s, and was killed."


def _encoded(text: str) -> bytes:
    """A text for the environment: the bytes of a path as they are; what has none is escaped."""
    try:
        return os.fsencode(text)
    except UnicodeEncodeError:
        return text.encode(errors="backslashreplace")
