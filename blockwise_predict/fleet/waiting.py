"""Waiting that ends soon when the user is in a hurry."""

from __future__ import annotations

import time
from collections.abc import Callable

Hurry = Callable[[], bool]
LOOK_S = 0.02


def wait_until(
    condition: Callable[[], bool], seconds: float, hurry: Hurry, hurried_s: float = 0.0
) -> bool:
    """Wait until a condition holds; returns whether it does.

    It is waited for `seconds` at most, and `hurried_s` at most from when there is a `hurry`.
    """
    deadline, hurried = time.monotonic() + seconds, False
    while not condition():
        now = time.monotonic()
        if not hurried and hurry():
            hurried, deadline = True, min(deadline, now + hurried_s)
        if now >= deadline:
            return False
        time.sleep(LOOK_S)
    return True
