"""A progress bar for work of known length on a terminal; nothing elsewhere."""

from __future__ import annotations

from blockwise_predict.cli.plaintext import plain
from blockwise_predict.cli.terminal import make_console
from blockwise_predict.run.progress import BlockBar
from blockwise_predict.run.reporter import Reporter


class BlockProgress(BlockBar, Reporter):
    """Shows how many blocks a command has done."""

    def __init__(self, what: str) -> None:
        self._console = make_console()
        super().__init__(what, self._console)

    def line(self, text: str) -> None:
        """A message."""
        self._console.print(plain(text), markup=False)

    def warn(self, text: str) -> None:
        """A warning."""
        self._console.print(plain(f"Warning: {text}"), markup=False, style="yellow")
