"""Progress bars that count blocks."""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

from blockwise_predict.config.plain import plain
from blockwise_predict.config.steps import Doing, watched_by
from blockwise_predict.plan.model import Plan
from blockwise_predict.records.status import Counts
from blockwise_predict.run.reporter import Reporter


def block_bar(console: Console, *, disable: bool) -> Progress:
    """A bar with a label, the number of blocks and the time left."""
    return Progress(
        TextColumn("{task.description}", markup=False),
        # What a narrow terminal has no room for is the bar.
        BarColumn(bar_width=None, table_column=Column(ratio=1)),
        MofNCompleteColumn(),
        TextColumn("blocks"),
        TimeRemainingColumn(),
        console=console,
        expand=True,
        disable=disable,
        redirect_stdout=False,
        redirect_stderr=False,
    )


def finished_blocks(counts: Counts) -> int:
    """Blocks that need not be done any more: predicted, or left out; failed ones do."""
    return counts.final - counts.failed


class BlockBar:
    """Shows a `block_bar` while its context is open, unless that is to `disable` it."""

    def __init__(self, what: str, console: Console, *, disable: bool) -> None:
        self._what = what
        self._doing: Doing | None = None
        self._bar = block_bar(console, disable=disable)
        self._task = self._bar.add_task(what, total=None)
        self._watching = ExitStack()

    def __enter__(self) -> Self:
        self._bar.start()
        self._watching.enter_context(watched_by(self._show_step))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._watching.close()
        self._bar.stop()

    def _show_step(self, doing: Doing | None) -> None:
        """Name a step beside the blocks, such as opening the checkpoint to compute some again."""
        self._doing = doing
        self._bar.update(self._task, description=self._description)

    @property
    def _description(self) -> str:
        return self._what if self._doing is None else plain(f"{self._what}: {self._doing}")

    def to(self, done: int, total: int) -> None:
        """Show that `done` of `total` blocks are done."""
        self._bar.update(self._task, completed=done, total=total)


class ProgressBar(BlockBar, Reporter):
    """Shows a run's blocks as a bar, on stderr or in a notebook."""

    def __init__(self, what: str) -> None:
        console = Console(stderr=True)
        movable = console.is_terminal and not console.is_dumb_terminal
        super().__init__(what, console, disable=not (movable or console.is_jupyter))
        self._work = what

    def begin(self, plan: Plan, counts: Counts) -> None:  # noqa: ARG002
        """Show the counts with which the run begins."""
        self.progress(counts)

    def progress(self, counts: Counts) -> None:
        """Show the counts."""
        self._what = f"{self._work}, {counts.failed} failed" if counts.failed else self._work
        self._bar.update(
            self._task,
            description=self._description,
            completed=finished_blocks(counts),
            total=counts.total,
        )
