"""A progress bar for work of known length on a terminal; nothing elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from blockwise_predict.cli.plaintext import plain
from blockwise_predict.cli.terminal import make_console


class BlockProgress:
    """Shows how many blocks a command has done."""

    def __init__(self, what: str) -> None:
        self._console = make_console()
        self._bar = Progress(
            TextColumn(what),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("blocks"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._bar.add_task(what)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def line(self, text: str) -> None:
        """A message."""
        self._console.print(plain(text), markup=False)

    def to(self, done: int, total: int) -> None:
        """So many of so many blocks are done."""
        self._bar.update(self._task, completed=done, total=total)
