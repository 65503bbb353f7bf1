"""Why workers leave a run, as its events record it."""

from __future__ import annotations

from enum import StrEnum
from typing import Any


class Departure(StrEnum):
    """The `cause` of an event `leave`.

    FINISHED: told that there is nothing more for it to do, or told to end and says so.
    SCHEDULER_ENDED: the scheduler closed the connection when it ended. LOST: its connection or
    process ended, and it was not expected to. SILENT: not heard from for too long. OVERDUE: it took
    too long for a block.
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


# Earlier events have no cause, but these sentences where nothing was wrong.
_EARLIER = {
    "its connection ended": Departure.FINISHED,
    "the scheduler ends": Departure.SCHEDULER_ENDED,
    "it has connected anew": Departure.FINISHED,
}


def departure_of(event: dict[str, Any]) -> Departure:
    """The cause of an event `leave`; LOST for one that this version does not know."""
    cause = event.get("cause")
    if cause is not None:
        return Departure(cause) if cause in set(Departure) else Departure.LOST
    earlier = _EARLIER.get(str(event.get("why")), Departure.LOST)
    # Who ends in good order hands back what it holds.
    return Departure.LOST if event.get("held") and earlier is Departure.FINISHED else earlier
