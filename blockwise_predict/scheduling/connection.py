"""The scheduler's side of an admitted worker's connection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from blockwise_predict.scheduling.transport.messages import End, FromWorker
from blockwise_predict.scheduling.transport.wire import Wire


@dataclass(eq=False)
class Connection:
    """The connection of worker `number`; `abort` cuts it off, `waiting` are the slots that have
    requested a block."""

    number: int
    wire: Wire[FromWorker]
    abort: Callable[[], None]
    waiting: set[int] = field(default_factory=set)
    told_to_end: bool = False

    def end(self, why: str) -> None:
        """Tell the worker, once, that there are no more blocks for it."""
        self.waiting.clear()
        if not self.told_to_end:
            self.told_to_end = True
            self.wire.send(End(why=why))
