"""Receiving what a run reports while it goes on."""

from __future__ import annotations

import logging

from blockwise_predict.plan.model import Plan
from blockwise_predict.records.status import Counts, WorkerStatus

_LOGGER = logging.getLogger("blockwise_predict")


class Reporter:
    """Receives what a run reports. This class logs messages to `blockwise_predict`.

    Subclass it to show messages and progress in another way.
    """

    def line(self, text: str) -> None:
        """Report a message."""
        _LOGGER.info(text)

    def warn(self, text: str) -> None:
        """Report a warning."""
        _LOGGER.warning(text)

    def begin(self, plan: Plan, counts: Counts) -> None:
        """The run begins, or resumes with these counts of blocks, of which none failed yet.

        Blocks that the options do not select are not in `counts.total`.
        """

    def progress(self, counts: Counts) -> None:
        """The current counts of blocks; called several times a second."""

    def workers(self, workers: tuple[WorkerStatus, ...]) -> None:
        """The workers that are present; called about once a second."""
