"""A progress bar for work of known length on a terminal; nothing elsewhere."""

from __future__ import annotations

from blockwise_predict.cli.console import Messages
from blockwise_predict.cli.verbosity import Verbosity
from blockwise_predict.run.progress import BlockBar
from blockwise_predict.run.reporter import Reporter


class BlockProgress(Messages, BlockBar, Reporter):
    """Shows how many blocks a command has done."""

    def __init__(self, what: str, verbosity: Verbosity = Verbosity.NORMAL) -> None:
        Messages.__init__(self, verbosity)
        BlockBar.__init__(self, what, self.console, disable=not self.is_live)
