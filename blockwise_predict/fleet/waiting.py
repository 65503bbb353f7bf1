"""Waiting for a condition, cut short when the user asks to stop at once."""

from __future__ import annotations

import time
from collections.abc import Callable

StopNow = Callable[[], bool]
"""Whether the user has asked to stop at once; may turn true at any time."""

POLL_S = 0.02


def wait_until(
    condition: Callable[[], bool], timeout: float, stop_now: StopNow, stop_timeout: float = 0.0
) -> bool:
    """Wait until a condition holds; returns whether it does.

    Gives up after `timeout` seconds, or `stop_timeout` seconds after `stop_now` first turned true.
    """
    deadline, stopping = time.monotonic() + timeout, False
    while not condition():
        now = time.monotonic()
        if not stopping and stop_now():
            stopping, deadline = True, min(deadline, now + stop_timeout)
        if now >= deadline:
            return False
        time.sleep(POLL_S)
    return True
