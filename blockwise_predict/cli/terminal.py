"""Progress of a run: a live bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import io
import os
import time
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from blockwise_predict.cli.plaintext import plain
from blockwise_predict.config.quantities import format_rate, format_seconds
from blockwise_predict.plan.model import Plan
from blockwise_predict.records.status import Counts
from blockwise_predict.run.reporter import Reporter

# Outside a terminal a line is written at this interval, if anything has changed.
LINE_INTERVAL_S = 10.0


class RunDisplay(Reporter):
    """Shows on stderr how a run proceeds: blocks, voxels per second, time left."""

    def __init__(self) -> None:
        self.console = make_console()
        self._progress: Progress | None = None
        self._task = TaskID(0)
        self._plan: Plan | None = None
        self._done_before = 0
        self._begun = time.monotonic()
        self._last_line = (0.0, -1)

    def line(self, text: str) -> None:
        """A plain message."""
        self.console.print(plain(text), markup=False)

    def warn(self, text: str) -> None:
        """A warning."""
        self.console.print(plain(f"Warning: {text}"), markup=False, style="yellow")

    def begin(self, plan: Plan, done: int, total: int) -> None:
        """The run begins, or resumes after `done` of `total` blocks."""
        self._plan, self._done_before = plan, done
        self._begun = time.monotonic()
        if left := plan.num_blocks - total:
            self.line(f"{total} of {plan.num_blocks} blocks are selected; {left} are left out.")
        if done:
            self.line(f"Resuming: {done} of {total} blocks are done.")
        if not self.console.is_terminal:
            return
        self._progress = Progress(
            TextColumn("Predicting"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("blocks  {task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("so far,"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=self.console,
            # Output of others must not pass through the bar's control characters.
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._progress.add_task("", total=total, completed=done, rate="")
        self._progress.start()

    def progress(self, counts: Counts) -> None:
        """Show the current counts; called often."""
        if self._progress is not None:
            rate = self._rate_text(counts)
            self._progress.update(
                self._task,
                completed=counts.final - counts.failed,
                rate="  ".join((rate, *_not_done(counts))),
            )
            return
        now = time.monotonic()
        then, final = self._last_line
        finished = counts.final == counts.total
        if counts.final != final and (finished or now - then >= LINE_INTERVAL_S):
            self._last_line = (now, counts.final)
            self.line(self._progress_line(counts))

    def _progress_line(self, counts: Counts) -> str:
        text = ", ".join((f"{counts.done}/{counts.total} blocks", *_not_done(counts)))
        if rate := self._rate_text(counts):
            text += f", {rate}"
            done_now = counts.done - self._done_before
            seconds = (counts.total - counts.final) * (time.monotonic() - self._begun) / done_now
            text += f", {format_seconds(seconds)} left"
        return text

    def _rate_text(self, counts: Counts) -> str:
        done_now = counts.done - self._done_before
        if self._plan is None or done_now < 1:
            return ""
        share = done_now / self._plan.num_blocks
        seconds = time.monotonic() - self._begun
        return format_rate(share * self._plan.output.roi.size / seconds)

    def end(self) -> None:
        """Take the live display down."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def make_console() -> Console:
    """A console on stderr; pass text from files through `plain` before printing it."""
    return Console(file=_stderr(), highlight=False, soft_wrap=True)


def _not_done(counts: Counts) -> list[str]:
    """How many blocks failed or were left out, in words."""
    numbers = ((counts.failed, "failed"), (counts.skipped, "skipped"), (counts.empty, "empty"))
    return [f"{number} {what}" for number, what in numbers if number]


class _Unheard(io.FileIO):
    """A file descriptor that discards what cannot be written.

    The terminal may be closed, the disk of a log full, and in `predict run ... | tee log` Ctrl-C
    ends `tee` as well. A run must not abort, and leave its jobs in the queue, because its messages
    cannot be shown. Warnings are recorded in the run's events as well.
    """

    def write(self, data: Any) -> int:
        """Write, if possible."""
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def _stderr() -> io.TextIOWrapper:
    raw = _Unheard(os.dup(2), "w")
    return io.TextIOWrapper(io.BufferedWriter(raw), "utf-8", "replace", line_buffering=True)
