"""Asking a run to stop."""

from __future__ import annotations

import time


class StopRequest:
    """Asks a run to stop, from a signal handler or another thread.

    The first request drains: workers finish the blocks that they hold, and nothing is begun. The
    second one stops at once. Either way the run can be resumed.
    """

    def __init__(self) -> None:
        self.times = 0
        self._limit = float("inf")

    def request(self, within: float = float("inf")) -> None:
        """Ask once more. A drain that takes longer than `within` seconds is cut off."""
        self.times += 1
        self._limit = min(self._limit, time.monotonic() + within)

    @property
    def at_once(self) -> bool:
        """Whether blocks in flight are abandoned."""
        return self.times > 1 or time.monotonic() > self._limit
