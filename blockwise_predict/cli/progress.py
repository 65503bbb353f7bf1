"""A progress bar for work of known length on a terminal; nothing elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from blockwise_predict.cli.plaintext import plain
from blockwise_predict.cli.terminal import make_console
from blockwise_predict.run.progress import block_bar


class BlockProgress:
    """Shows how many blocks a command has done."""

    def __init__(self, what: str) -> None:
        self._console = make_console()
        self._bar = block_bar(what, self._console)
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
        """Show that `done` of `total` blocks are done."""
        self._bar.update(self._task, completed=done, total=total)
