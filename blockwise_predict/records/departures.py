"""Why workers leave a run, as recorded in its events."""

from __future__ import annotations

from enum import StrEnum
from typing import Any


class Departure(StrEnum):
    """The `cause` of an event `leave`.

    FINISHED: there were no more blocks for it, or it was told to end and said good-bye.
    SCHEDULER_ENDED: the scheduler closed the connection when it ended. LOST: its connection or
    process ended unexpectedly. SILENT: it did not reconnect in time. OVERDUE: it exceeded the block
    timeout.
    """

    FINISHED = "finished"
    SCHEDULER_ENDED = "scheduler ended"
    LOST = "lost"
    SILENT = "silent"
    OVERDUE = "overdue"

    @property
    def failed(self) -> bool:
        """Whether something was wrong with the worker, its machine or its connection."""
        return self in (Departure.LOST, Departure.SILENT, Departure.OVERDUE)


# Events of earlier versions have no cause, but one of these sentences where nothing was wrong.
_EARLIER = {
    "its connection ended": Departure.FINISHED,
    "the scheduler ends": Departure.SCHEDULER_ENDED,
    "it has connected anew": Departure.FINISHED,
}


def departure_of(event: dict[str, Any]) -> Departure:
    """The cause of an event `leave`; LOST if this version does not know it."""
    cause = event.get("cause")
    if cause is not None:
        return Departure(cause) if cause in set(Departure) else Departure.LOST
    earlier = _EARLIER.get(str(event.get("why")), Departure.LOST)
    # A worker that ends normally hands back its blocks.
    return Departure.LOST if event.get("held") and earlier is Departure.FINISHED else earlier
