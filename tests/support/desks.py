"""A dispatcher with a clock that a test moves."""

from __future__ import annotations

from pathlib import Path

from blockwise_predict.records.departures import Departure
from blockwise_predict.records.failures import Failure
from blockwise_predict.records.ledger import create_ledger, open_ledger
from blockwise_predict.scheduling.dispatcher import Callbacks, Dispatcher
from blockwise_predict.scheduling.members import Member
from blockwise_predict.scheduling.retries import Attempts
from blockwise_predict.scheduling.transport.messages import Failed
from tests.support.peers import Blocks, done


class Desk:
    """A dispatcher of `count` blocks with a clock that stands until it is moved."""

    def __init__(self, folder: Path, count: int, retries: int = 2) -> None:
        create_ledger(folder / "blocks.npy", (count,))
        self.ledger = open_ledger(folder / "blocks.npy", (count,))
        self.now = 0.0
        self.blocks = Blocks(count)
        self.warnings: list[str] = []
        notes = Callbacks(self.failure, lambda *_, **__: None, self.warnings.append)
        self.dispatcher = Dispatcher(
            self.blocks,
            self.ledger,
            notes,
            retries=retries,
            block_timeout=100.0,
            clock=lambda: self.now,
        )

    def failure(self, block: int, attempts: Attempts) -> Failure:
        return Failure(block, f"block {block}", attempts.count, attempts.error, "", None)

    def join(self, *numbers: int) -> None:
        for number in numbers:
            self.dispatcher.join(Member(number, f"host {number}", 2))

    def next(self, worker: int = 0) -> object:
        return self.dispatcher.next(worker, 0)

    def leave(self, worker: int) -> None:
        self.dispatcher.remove(worker, Departure.LOST)

    def done(self, block: int, worker: int = 0) -> None:
        self.dispatcher.done(worker, done(block))

    def fail(self, block: int, worker: int = 0, error: str = "computing: no") -> None:
        self.dispatcher.failed(worker, Failed(block=block, error=error, traceback="traceback"))
