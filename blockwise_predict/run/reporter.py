"""What a run reports while it goes on."""

from __future__ import annotations

import logging

from blockwise_predict.plan.model import Plan
from blockwise_predict.scheduling.members import Counts

_LOGGER = logging.getLogger("blockwise_predict")


class Reporter:
    """Receives what a run reports. This one logs messages; subclasses show them, and progress."""

    def line(self, text: str) -> None:
        """A message."""
        _LOGGER.info(text)

    def warn(self, text: str) -> None:
        """A warning."""
        _LOGGER.warning(text)

    def begin(self, plan: Plan, done: int) -> None:
        """The run begins, or resumes after `done` blocks."""

    def progress(self, counts: Counts) -> None:
        """The counts of blocks now; called several times a second."""
