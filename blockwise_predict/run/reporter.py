"""What a run reports while it goes on."""

from __future__ import annotations

from blockwise_predict.plan.model import Plan
from blockwise_predict.scheduling.members import Counts


class Reporter:
    """Receives what a run reports; this one ignores it, subclasses show it."""

    def line(self, text: str) -> None:
        """A message."""

    def warn(self, text: str) -> None:
        """A warning."""

    def begin(self, plan: Plan, done: int) -> None:
        """The run begins, or resumes after `done` blocks."""

    def progress(self, counts: Counts) -> None:
        """The counts of blocks now; called several times a second."""
