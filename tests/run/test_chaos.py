"""A short piece of the chaos test; `make chaos` runs long ones."""

from __future__ import annotations

import pytest

from tests.support.chaos import run_chaos


@pytest.mark.slow
def test_a_run_that_is_disturbed_ends_as_if_nothing_had_happened() -> None:
    done = run_chaos(seed=7, faults=15, workers=3, interval=1.0, pause=0.2)
    assert done.total() >= 15
    assert len(done) >= 6, "of several kinds"
