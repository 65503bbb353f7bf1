"""The dispatcher: blocks are handed out once, tried again as they should be, and none is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from blockwise_predict.records.ledger import State
from blockwise_predict.scheduling.transport.messages import Done, Failed
from tests.support.desks import Desk


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def test_every_block_once_and_then_the_end(folder: Path) -> None:
    desk = Desk(folder, 3)
    desk.join(0)
    blocks = [desk.next(), desk.next(), desk.next()]
    assert blocks == [0, 1, 2]
    assert desk.next() == "wait"
    for block in (0, 1, 2):
        desk.done(block)
    assert desk.next() == "end"
    assert desk.dispatcher.finished
    assert desk.ledger.blocks(State.DONE) == [0, 1, 2]
    assert desk.blocks.finished == [0, 1, 2]


def test_counts_of_other_arrays_than_the_runs_are_an_error(folder: Path) -> None:
    desk = Desk(folder, 1, retries=0)
    desk.join(0)
    assert desk.next() == 0
    counts = {"clipped": [1, 2], "nonfinite": [0, 0]}
    desk.dispatcher.done(0, Done(block=0, read=0, compute=0, write=0, **counts))
    assert desk.ledger.blocks(State.FAILED) == [0]


def test_an_error_uses_up_an_attempt_and_the_last_one_the_block(folder: Path) -> None:
    desk = Desk(folder, 1, retries=1)
    desk.join(0)
    assert desk.next() == 0
    desk.fail(0, error="reading: first")
    assert desk.next() == "wait"
    desk.now += 1
    assert desk.next() == 0
    desk.fail(0, error="reading: last")
    assert desk.next() == "end"
    assert [f.error for f in desk.dispatcher.given_up] == ["reading: last"]
    assert desk.dispatcher.given_up[0].attempts == 2
    assert desk.ledger.blocks(State.FAILED) == [0]
    assert desk.warnings == [
        "a block failed on worker 0 (host 0) and is tried again: reading: first",
        "block block 0 failed for good: reading: last",
    ]


def test_the_user_is_told_once_of_each_kind_of_error(folder: Path) -> None:
    desk = Desk(folder, 3)
    desk.join(0)
    for block, error in enumerate(("no chunk 1", "no chunk 2", "out of memory")):
        assert desk.next() == block
        desk.fail(block, error=error)
    told = [w for w in desk.warnings if "is tried again" in w]
    assert [w.rsplit(": ", 1)[1] for w in told] == ["no chunk 1", "out of memory"]


def test_another_worker_is_preferred_for_a_second_attempt(folder: Path) -> None:
    desk = Desk(folder, 1)
    desk.join(0, 1)
    assert desk.next(0) == 0
    desk.fail(0, worker=0)
    desk.now += 1
    assert desk.next(0) == "wait"
    assert desk.next(1) == 0
    desk.fail(0, worker=1)
    desk.now += 20
    assert desk.next(1) == "wait"
    desk.leave(0)
    assert desk.next(1) == 0, "the same worker is better than none"


def test_a_worker_that_is_away_is_no_other_worker(folder: Path) -> None:
    desk = Desk(folder, 1)
    desk.join(0, 1)
    assert desk.next(0) == 0
    desk.fail(0, worker=0)
    desk.dispatcher.disconnect(1, "its connection was lost")
    desk.now += 1
    assert desk.next(0) == 0


def test_a_worker_that_was_told_to_end_costs_its_blocks_nothing(folder: Path) -> None:
    desk = Desk(folder, 2, retries=0)
    for number in range(20):
        desk.join(number)
        assert {desk.next(number), desk.next(number)} == {0, 1}
        desk.dispatcher.members[number].leaving = True
        assert desk.next(number) == "end"
        desk.leave(number)
    assert not desk.dispatcher.given_up
    assert desk.dispatcher.reason is None


def test_a_block_that_kills_is_found_and_costs_the_others_nothing(folder: Path) -> None:
    desk = Desk(folder, 10, retries=0)
    killer = 5
    number = 0
    desk.join(number)
    held: list[int] = []
    for _ in range(200):
        answer = desk.next(number)
        if isinstance(answer, int):
            held.append(answer)
        if killer in held:
            desk.leave(number)
            number, held = number + 1, []
            desk.join(number)
        elif answer == "end":
            break
        elif len(held) == 2 or answer == "wait":
            for block in held:
                desk.done(block, number)
            held = []
        desk.now += 1
    assert [failure.block for failure in desk.dispatcher.given_up] == [killer]
    assert desk.ledger.blocks(State.DONE) == [b for b in range(10) if b != killer]
    assert number == 2, "one death in company, and one alone"


def test_a_suspect_is_alone_with_its_worker(folder: Path) -> None:
    desk = Desk(folder, 6)
    desk.join(0, 1)
    assert [desk.next(1), desk.next(0), desk.next(0)] == [0, 1, 2]
    desk.leave(0)
    desk.now += 1
    assert desk.next(1) == "wait", "the worker with the lowest number makes room"
    desk.done(0, 1)
    suspect = desk.next(1)
    assert suspect in (1, 2)
    assert desk.next(1) == "wait"
    desk.done(int(str(suspect)), 1)
    assert desk.next(1) in (1, 2)


def test_a_block_that_takes_too_long_ends_its_worker(folder: Path) -> None:
    desk = Desk(folder, 2, retries=0)
    desk.join(0)
    assert desk.next() == 0
    desk.now += 60
    assert desk.next() == 1
    desk.now += 60
    assert desk.dispatcher.overdue() == [(0, 0)]
    desk.dispatcher.time_out(0, 0)
    assert desk.dispatcher.given_up[0].error == "it took longer than --block-timeout (100 s)"
    assert (
        "took longer than --block-timeout (100 s) for a block: terminating it" in desk.warnings[-1]
    )
    desk.join(1)
    assert desk.next(1) == 1


def test_the_same_error_for_all_blocks_stops_the_run(folder: Path) -> None:
    desk = Desk(folder, 100)
    desk.join(0)
    for _ in range(10):
        block = desk.next()
        assert isinstance(block, int)
        desk.fail(block, error=f"computing: block {block} has no weights")
    assert desk.next() == "end"
    assert desk.dispatcher.reason == (
        "10 different blocks failed with the same error: computing: block 9 has no weights"
    )
    assert not desk.dispatcher.given_up


def test_one_error_for_many_blocks_stops_the_run_in_the_end(folder: Path) -> None:
    desk = Desk(folder, 100, retries=0)
    desk.join(0)
    while desk.dispatcher.reason is None:
        block = desk.next()
        assert isinstance(block, int)
        if block % 3:
            desk.done(block)
        else:
            desk.fail(block, error="computing: a bug")
    assert desk.dispatcher.reason == (
        "10 different blocks failed with the same error: computing: a bug"
    )


def test_bad_luck_does_not_stop_a_run(folder: Path) -> None:
    desk = Desk(folder, 100, retries=0)
    desk.join(0)
    for _ in range(100):
        block = desk.next()
        assert isinstance(block, int)
        desk.fail(block, error=f"computing: {chr(97 + block % 26) * (block + 1)}")
    assert desk.next() == "end"
    assert desk.dispatcher.reason is None
    assert len(desk.dispatcher.given_up) == 100


def test_a_full_disk_stops_the_run_and_costs_no_attempt(folder: Path) -> None:
    desk = Desk(folder, 2, retries=0)
    desk.join(0)
    assert desk.next() == 0
    error = "the output cannot be written: disk full"
    desk.dispatcher.failed(0, Failed(block=0, error=error, traceback="", fatal=True))
    assert desk.next() == "end"
    assert desk.dispatcher.reason == "the output cannot be written: disk full"
    assert desk.ledger.blocks(State.TODO) == [0, 1]


def test_workers_that_die_on_every_block_stop_the_run(folder: Path) -> None:
    desk = Desk(folder, 100)
    for number in range(50):
        desk.join(number)
        desk.now += 4
        if desk.next(number) == "end":
            break
        desk.next(number)
        desk.leave(number)
    assert "5 different blocks took their worker with them" in str(desk.dispatcher.reason)
    assert number <= 11


def test_a_worker_that_comes_back_goes_on_with_what_it_holds(folder: Path) -> None:
    desk = Desk(folder, 3, retries=0)
    desk.join(0, 1)
    assert [desk.next(0), desk.next(0), desk.next(1)] == [0, 1, 2]
    desk.dispatcher.disconnect(0, "its connection was lost")
    assert desk.next(1) == "wait"
    assert desk.dispatcher.rejoin(0, [0, 2, 7]) == [0]
    assert desk.next(0) == 1, "it was on its way to it"
    for block, worker in ((0, 0), (1, 0), (2, 1)):
        desk.done(block, worker)
    assert desk.dispatcher.finished
    assert not desk.dispatcher.given_up
