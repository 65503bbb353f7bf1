"""An admitted worker's connection, at the scheduler's end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from blockwise_predict.scheduling.transport.messages import End, FromWorker
from blockwise_predict.scheduling.transport.wire import Wire


@dataclass(eq=False)
class Connection:
    """An admitted worker's connection: the worker's number, what cuts the connection off, and the
    slots that wait for an answer."""

    number: int
    wire: Wire[FromWorker]
    abort: Callable[[], None]
    waiting: set[int] = field(default_factory=set)
    told_to_end: bool = False

    def end(self, why: str) -> None:
        """Tell the worker, once, that there is no more for it to do."""
        self.waiting.clear()
        if not self.told_to_end:
            self.told_to_end = True
            self.wire.send(End(why=why))
