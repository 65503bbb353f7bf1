"""The dispatcher under any order of events."""

from __future__ import annotations

from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from blockwise_predict.records.ledger import State
from tests.support.desks import Desk


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
