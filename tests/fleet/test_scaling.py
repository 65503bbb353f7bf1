"""Fleets of jobs that grow and shrink, and their workers as the scheduler sees them."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from blockwise_predict.fleet.queue import State
from tests.support.books import Stage
from tests.support.runs import until

pytestmark = pytest.mark.usefixtures("impatient")


def test_scaling_cancels_what_waits_first(tmp_path: Path) -> None:
    stage = Stage(tmp_path, 4)
    stage.join(0, "book-1_0")
    stage.join(1, "book-1_1")
    stage.book.set("book-1_2", State.RUNNING)
    stage.look()
    assert stage.fleet.scale(2, stage.membership).leaving == ()
    stage.look()
    assert stage.alive() == ["book-1_0", "book-1_1"]
    (leaving,) = stage.fleet.scale(1, stage.membership).leaving
    stage.look()
    assert stage.fleet.alive == 1
    assert stage.book.submitted == 1
    # It is told until it goes.
    assert stage.released == {leaving}
    stage.book.set(stage.membership.workers[leaving].job, State.ENDED, "COMPLETED")
    stage.leave(leaving)
    stage.look()
    assert stage.fleet.scale(3, stage.membership).leaving == ()
    stage.look()
    assert stage.fleet.alive == 3
    assert stage.told == []


def test_jobs_that_are_too_many_are_cancelled_until_they_are_gone(tmp_path: Path) -> None:
    stage = Stage(tmp_path, 3)
    stage.join(0, "book-1_0")
    stage.join(1, "book-1_1")
    stage.look()
    # One was put into the queue again, the queue does not hear of the other, and one hangs.
    stage.leave(0)
    stage.book.set("book-1_0", State.WAITING)
    stage.look()
    stage.book.refuses = "timed out"
    assert stage.fleet.scale(0, stage.membership).leaving == (1,)
    assert len(stage.alive()) == 3
    stage.book.refuses = None
    stage.look()
    assert stage.alive() == ["book-1_1"]
    stage.leave(1)
    stage.fleet.end_workers([1], stage.membership)
    stage.look()
    assert stage.alive() == []
    stage.look()
    assert stage.book.submitted == 1


def test_no_more_than_the_throttle_run(tmp_path: Path) -> None:
    """Each array has a limit of its own, so replacements wait until that one cannot be exceeded."""
    stage = Stage(tmp_path, 5, throttle=2)
    for index in range(5):
        stage.look()
        assert stage.book.submitted == max(1, index - 2)
        stage.book.set(f"book-1_{index}", State.ENDED, "TIMEOUT")
        membership = stage.membership.with_worker(index, f"book-1_{index}", time.monotonic())
        stage.membership = replace(membership.without_worker(index), done=index + 1)
    stage.look()
    assert stage.alive() == ["book-2_0", "book-3_0"]


def test_a_hundred_lost_workers_are_cancelled_by_one_command(tmp_path: Path) -> None:
    stage = Stage(tmp_path, 100)
    for number in range(100):
        stage.join(number, f"book-1_{number}")
    stage.look()
    for number in range(100):
        stage.leave(number)
    before = time.monotonic()
    stage.fleet.end_workers(range(100), stage.membership)
    assert time.monotonic() - before < 0.1
    until(lambda: stage.look(1) is None and stage.book.submitted == 2)
    assert stage.book.cancelled == [[f"book-1_{number}" for number in range(100)]]
    assert len(stage.alive()) == 100


def test_workers_whose_jobs_have_ended_are_gone_though_their_connections_linger(
    tmp_path: Path,
) -> None:
    stage = Stage(tmp_path, 3)
    for number in range(3):
        stage.join(number, f"book-1_{number}")
    stage.look()
    assert not stage.gone
    stage.book.set("book-1_1", State.ENDED, "NODE_FAIL", blameless=True)
    stage.look()
    assert stage.gone == {1}
