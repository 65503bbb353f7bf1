"""Asking a run to stop."""

from __future__ import annotations

import time


class StopRequest:
    """Asks a run to stop, from a signal handler or another thread.

    The first request drains the run: workers finish the blocks that they hold, and no further
    blocks are handed out. A second request stops at once. Either way the run can be resumed.
    """

    def __init__(self) -> None:
        self.times = 0
        self._limit = float("inf")

    def request(self, within: float = float("inf")) -> None:
        """Ask the run to stop. If draining takes longer than `within` seconds, stop at once."""
        self.times += 1
        self._limit = min(self._limit, time.monotonic() + within)

    @property
    def at_once(self) -> bool:
        """Whether to abandon the blocks that workers hold."""
        return self.times > 1 or time.monotonic() > self._limit
