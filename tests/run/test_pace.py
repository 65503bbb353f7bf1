"""The rate and the time left that are shown of a run."""

from __future__ import annotations

import pytest

from blockwise_predict.records.status import Counts
from blockwise_predict.run.observation.pace import WINDOW_S, Pace


class Clock:
    """A clock that is set by hand (seconds)."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def after(pace: Pace, clock: Clock, seconds: float, **counts: int) -> None:
    clock.now += seconds
    pace.observe(Counts(**{"total": 100, "done": 0, "failed": 0, "processing": 4, **counts}))


def test_nothing_is_said_before_half_a_round_is_done(clock: Clock) -> None:
    pace = Pace(clock)
    # The workers start.
    after(pace, clock, 0, processing=0)
    after(pace, clock, 60, processing=4)
    after(pace, clock, 10, done=1)
    assert (pace.blocks_per_second, pace.seconds_left) == (None, None)
    after(pace, clock, 0, done=4)
    # The start does not count.
    assert pace.blocks_per_second == pytest.approx(0.4)
    assert pace.seconds_left == pytest.approx(96 / 0.4)


def test_blocks_of_earlier_runs_do_not_count(clock: Clock) -> None:
    pace = Pace(clock)
    after(pace, clock, 0, done=80)
    assert pace.seconds_left is None
    after(pace, clock, 10, done=84)
    assert pace.seconds_left == pytest.approx(16 / 0.4)


def test_blocks_that_are_left_out_take_no_time(clock: Clock) -> None:
    pace = Pace(clock)
    after(pace, clock, 0)
    after(pace, clock, 1, skipped=10, empty=30)
    assert pace.seconds_left is None
    after(pace, clock, 9, skipped=10, empty=30, done=10)
    # One block a second; of the 50 blocks left, a fifth will be computed.
    assert pace.blocks_per_second == pytest.approx(1)
    assert pace.seconds_left == pytest.approx(10)


def test_blocks_that_failed_are_work_and_no_voxels(clock: Clock) -> None:
    pace = Pace(clock)
    after(pace, clock, 0)
    after(pace, clock, 10, done=1, failed=4)
    assert pace.blocks_per_second == pytest.approx(0.1)
    assert pace.seconds_left == pytest.approx(95 / 0.5)


def test_the_rate_is_that_of_the_last_minute(clock: Clock) -> None:
    pace = Pace(clock)
    after(pace, clock, 0, total=10_000)
    for done in range(1, 101):
        after(pace, clock, 10, total=10_000, done=done)
    assert pace.blocks_per_second == pytest.approx(0.1)
    # More workers have joined.
    for done in range(101, 101 + int(2 * WINDOW_S)):
        after(pace, clock, 1, total=10_000, done=done)
    assert pace.blocks_per_second == pytest.approx(1, rel=0.05)


def test_the_rate_falls_when_no_block_is_done(clock: Clock) -> None:
    pace = Pace(clock)
    after(pace, clock, 0)
    after(pace, clock, 10, done=4)
    after(pace, clock, 2, done=4)
    assert pace.blocks_per_second == pytest.approx(0.4)
    after(pace, clock, 1000, done=4)
    assert (pace.blocks_per_second or 1) < 0.005


def test_the_rate_is_right_soon_after_most_workers_are_lost(clock: Clock) -> None:
    pace = Pace(clock)
    done = 0
    after(pace, clock, 0, total=100_000, processing=128)
    for _ in range(600):
        done += 6
        after(pace, clock, 1, total=100_000, processing=128, done=done)
    assert pace.blocks_per_second == pytest.approx(6, rel=0.05)
    for _ in range(12):
        done += 1
        after(pace, clock, 10, total=100_000, processing=2, done=done)
    assert pace.blocks_per_second == pytest.approx(0.1, rel=0.05)
    assert pace.seconds_left == pytest.approx((100_000 - done) / 0.1, rel=0.05)
