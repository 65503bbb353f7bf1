"""A run on the terminal: a live view of blocks and workers there, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from blockwise_predict.cli.console import Messages
from blockwise_predict.cli.verbosity import Verbosity
from blockwise_predict.cli.worker_table import worker_lines
from blockwise_predict.config.quantities import format_rate, format_seconds
from blockwise_predict.plan.model import Plan
from blockwise_predict.records.status import Counts, WorkerStatus
from blockwise_predict.run.observation.pace import Pace
from blockwise_predict.run.progress import finished_blocks
from blockwise_predict.run.reporter import Reporter

# Outside a terminal a line is written at this interval, if anything has changed.
LINE_INTERVAL_S = 10.0
# Frames of the live view.
FRAMES_PER_SECOND = 4
# Lines of the terminal that the live view leaves free, for the cursor and the prompt.
FREE_LINES = 2
MAX_BAR = 40


class RunDisplay(Messages, Reporter):
    """Shows on stderr how a run proceeds: blocks, voxels per second, time left, workers."""

    def __init__(self, verbosity: Verbosity = Verbosity.NORMAL) -> None:
        super().__init__(verbosity)
        self._live: Live | None = None
        self._view = LiveView()
        self._last_line = (0.0, -1)

    def begin(self, plan: Plan, counts: Counts) -> None:
        """The run begins, or resumes, with these counts."""
        total = counts.total
        self._view = LiveView(plan.output.roi.size / plan.num_blocks)
        self._view.counts = counts
        if left := plan.num_blocks - total:
            self.line(f"{total} of {plan.num_blocks} blocks are selected; {left} are left out.")
        if counts.final:
            self.line(f"Resuming: {counts.final} of {total} blocks are done.")
        if not self.is_live:
            return
        self._live = Live(
            self._view,
            console=self.console,
            refresh_per_second=FRAMES_PER_SECOND,
            # Output of others must not pass through the view's control characters.
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )
        self._live.start()

    def progress(self, counts: Counts) -> None:
        """Show the current counts; called often."""
        self._view.observe(counts)
        if self._live is not None or self.verbosity is Verbosity.QUIET:
            return
        now = time.monotonic()
        then, final = self._last_line
        finished = counts.final == counts.total
        if counts.final != final and (finished or now - then >= LINE_INTERVAL_S):
            self._last_line = (now, counts.final)
            self.line(self._view.line)

    def workers(self, workers: tuple[WorkerStatus, ...]) -> None:
        """Show what the workers do."""
        self._view.show_workers(workers)

    def end(self) -> None:
        """Take the live display down."""
        if self._live is not None:
            # What remains on the screen are the counts.
            self._view.end()
            self._live.stop()
            self._live = None


class LiveView:
    """What is shown of a run: its counts, its pace, its workers; in as many lines as fit."""

    def __init__(self, voxels_per_block: float = 0.0) -> None:
        self.counts = Counts(0, 0, 0, 0)
        self.workers: Sequence[WorkerStatus] = ()
        self._voxels_per_block = voxels_per_block
        self._pace = Pace()
        self._begun = time.monotonic()
        self._had_workers = self._ended = False

    def show_workers(self, workers: Sequence[WorkerStatus]) -> None:
        """Show these workers."""
        self.workers = workers
        self._had_workers = self._had_workers or bool(workers)

    def end(self) -> None:
        """Show no workers any more, and do not miss them."""
        self.workers = ()
        self._ended = True

    def observe(self, counts: Counts) -> None:
        """Take note of the current counts."""
        self.counts = counts
        self._pace.observe(counts)

    @property
    def line(self) -> str:
        """All of it in one line of text, without the workers."""
        counts = self.counts
        parts = [
            f"{finished_blocks(counts)}/{counts.total} blocks",
            *_not_done(counts),
            *self._pace_texts(),
        ]
        return ", ".join(parts)

    def _pace_texts(self) -> list[str]:
        """Rate and time left, if they can be told yet."""
        rate, seconds = self._pace.blocks_per_second, self._pace.seconds_left
        if rate is None or seconds is None:
            return []
        texts = [format_rate(rate * self._voxels_per_block)] if rate else []
        if self.counts.final < self.counts.total:
            texts.append(f"{format_seconds(seconds)} left")
        return texts

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width, height = options.max_width, console.height - FREE_LINES
        yield self._bar(width)
        yield self._numbers(width)
        yield from worker_lines(
            self.workers,
            width=width,
            height=height - 2,
            voxels_per_block=self._voxels_per_block,
        )

    def _bar(self, width: int) -> Table:
        counts = self.counts
        finished = finished_blocks(counts)
        share = finished / counts.total if counts.total else 0.0
        before, after = "Predicting", f"{finished}/{counts.total} blocks {share:4.0%}"
        room = width - len(before) - len(after) - 2
        bar = ProgressBar(
            total=counts.total or 1,
            completed=finished,
            width=min(MAX_BAR, room),
            complete_style="cyan",
            finished_style="green",
        )
        row = [before, bar, after] if room > 3 else [after]
        grid = Table.grid(padding=(0, 1))
        for _ in row:
            grid.add_column(no_wrap=True, overflow="crop")
        grid.add_row(*row)
        return grid

    def _numbers(self, width: int) -> Text:
        """Rate, time so far and left, blocks that are not done; the last of them give way."""
        passed = f"{format_seconds(time.monotonic() - self._begun)} so far"
        counts = self.counts
        missing = not self.workers and not counts.processing and not self._ended
        if missing and counts.final < counts.total:
            passed = f"no worker{'' if self._had_workers else ' yet'}, {passed}"
        *rate, left = self._pace_texts() or [""]
        texts = [text for text in (left, *_not_done(self.counts), *rate, passed) if text]
        while len(texts) > 1 and len(", ".join(texts)) > width:
            texts.pop()
        line = Text(", ".join(texts))
        line.truncate(width, overflow="ellipsis")
        return line


def _not_done(counts: Counts) -> list[str]:
    """How many blocks failed or were left out, in words."""
    numbers = ((counts.failed, "failed"), (counts.skipped, "skipped"), (counts.empty, "empty"))
    return [f"{number} {what}" for number, what in numbers if number]
