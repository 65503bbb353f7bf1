"""The dispatcher: blocks are handed out once, tried again as they should be, and none is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from blockwise_predict.records.departures import Departure
from blockwise_predict.records.failures import Failure
from blockwise_predict.records.ledger import State, create_ledger, open_ledger
from blockwise_predict.scheduling.dispatcher import Callbacks, Dispatcher
from blockwise_predict.scheduling.members import Member
from blockwise_predict.scheduling.retries import Attempts
from blockwise_predict.scheduling.transport.messages import Failed
from tests.support.peers import Blocks, done


class Desk:
    """A dispatcher of `count` blocks with a clock that stands until it is moved."""

    def __init__(self, folder: Path, count: int, retries: int = 2) -> None:
        create_ledger(folder / "blocks.npy", (count,))
        self.ledger = open_ledger(folder / "blocks.npy", (count,))
        self.now = 0.0
        self.blocks = Blocks(count)
        self.warnings: list[str] = []
        notes = Callbacks(self.failure, lambda *_, **__: None, self.warnings.append)
        self.dispatcher = Dispatcher(
            self.blocks,
            self.ledger,
            notes,
            retries=retries,
            block_timeout=100.0,
            clock=lambda: self.now,
        )

    def failure(self, block: int, attempts: Attempts) -> Failure:
        return Failure(block, f"block {block}", attempts.count, attempts.error, "", None)

    def join(self, *numbers: int) -> None:
        for number in numbers:
            self.dispatcher.join(Member(number, f"host {number}", 2))

    def next(self, worker: int = 0) -> object:
        return self.dispatcher.next(worker, 0)

    def leave(self, worker: int) -> None:
        self.dispatcher.remove(worker, Departure.LOST)

    def done(self, block: int, worker: int = 0) -> None:
        self.dispatcher.done(worker, done(block))

    def fail(self, block: int, worker: int = 0, error: str = "computing: no") -> None:
        self.dispatcher.failed(worker, Failed(block=block, error=error, traceback="traceback"))


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


class Life(RuleBasedStateMachine):
    """Any order of events: no block is held twice or lost, and each ends as the ledger says."""

    @initialize(count=st.integers(1, 12), retries=st.integers(0, 3))
    def begin(self, count: int, retries: int) -> None:
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.desk = Desk(Path(self.folder.name), count, retries)
        self.count = count
        self.joined = 0
        self.handed_out = 0

    def teardown(self) -> None:
        if not hasattr(self, "desk"):
            return
        # Whatever happened: workers that do their work bring it to its end.
        desk, dispatcher = self.desk, self.desk.dispatcher
        for number in self.workers:
            desk.leave(number)
        if dispatcher.reason is None:
            desk.join(1000)
            for _ in range(20 * self.count):
                answer = desk.next(1000)
                if isinstance(answer, int):
                    desk.done(answer, 1000)
                desk.now += 70
            assert dispatcher.finished
            final = desk.ledger.count(State.DONE, State.FAILED)
            assert final == self.count
            assert sorted(desk.blocks.finished) == list(range(self.count))
        desk.ledger.close()
        self.folder.cleanup()

    @property
    def workers(self) -> list[int]:
        return sorted(self.desk.dispatcher.members)

    @rule()
    def join(self) -> None:
        self.desk.join(self.joined)
        self.joined += 1

    @precondition(lambda self: self.workers)
    @rule(data=st.data())
    def ask(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(self.workers))
        before = set(self.desk.dispatcher.members[worker].held)
        answer = self.desk.next(worker)
        self.handed_out += 1 if isinstance(answer, int) else 0
        if isinstance(answer, int):
            assert self.desk.ledger.states[answer] == State.TODO
            assert answer not in before

    @precondition(lambda self: any(m.held for m in self.desk.dispatcher.members.values()))
    @rule(
        data=st.data(),
        what=st.sampled_from(["done", "failed", "failed", "back"]),
        error=st.sampled_from(["a", "b", "c", "d"]),
    )
    def report(self, data: st.DataObject, what: str, error: str) -> None:
        members = self.desk.dispatcher.members
        worker = data.draw(st.sampled_from([n for n, m in members.items() if m.held]))
        block = data.draw(st.sampled_from(sorted(members[worker].held)))
        if what == "done":
            self.desk.done(block, worker)
            assert self.desk.ledger.states[block] == State.DONE
        elif what == "failed":
            self.desk.fail(block, worker, f"computing: {error}")
        else:
            self.desk.dispatcher.hand_back(worker, block)

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), leaving=st.booleans())
    def leave(self, data: st.DataObject, leaving: bool) -> None:
        worker = data.draw(st.sampled_from(self.workers))
        self.desk.dispatcher.members[worker].leaving = leaving
        self.desk.leave(worker)

    @precondition(lambda self: self.workers)
    @rule(data=st.data())
    def disconnect(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(self.workers))
        self.desk.dispatcher.disconnect(worker, "its connection was lost")

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), holds=st.sets(st.integers(0, 12)))
    def rejoin(self, data: st.DataObject, holds: set[int]) -> None:
        worker = data.draw(st.sampled_from(self.workers))
        before = set(self.desk.dispatcher.members[worker].held)
        assert set(self.desk.dispatcher.rejoin(worker, holds)) == before & holds

    @rule(seconds=st.sampled_from([0.5, 5.0, 70.0, 130.0]))
    def wait(self, seconds: float) -> None:
        self.desk.now += seconds
        for worker, block in self.desk.dispatcher.overdue():
            if worker in self.desk.dispatcher.members:
                self.desk.dispatcher.time_out(worker, block)

    @invariant()
    def no_block_is_held_twice(self) -> None:
        if not hasattr(self, "desk"):
            return
        dispatcher = self.desk.dispatcher
        held = [block for member in dispatcher.members.values() for block in member.held]
        assert len(held) == len(set(held))
        waiting = [block for _, block in dispatcher._requeued]
        final = self.desk.ledger.blocks(State.DONE, State.FAILED)
        everywhere = [*held, *waiting, *final, *self.desk.blocks.left]
        assert sorted(everywhere) == list(range(self.count))

    @invariant()
    def who_is_alone_is_alone(self) -> None:
        if not hasattr(self, "desk"):
            return
        dispatcher = self.desk.dispatcher
        for member in dispatcher.members.values():
            if any(dispatcher._retries.must_be_alone(block) for block in member.held):
                assert len(member.held) == 1


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
