"""The retry policy, on its own: what failures cost, who may try again, and when a run stops."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from blockwise_predict.scheduling.retries import LOST, RetryPolicy

ERRORS = ("reading: chunk {block} is missing", "computing: block {block} has no weights")


def test_an_error_costs_an_attempt_and_delays_the_next_one() -> None:
    policy = RetryPolicy(retries=3)
    delays = []
    for _ in range(3):
        delays.append(
            policy.failed(7, 0, "computing: no", log="a.log", traceback="traceback").delay
        )
        assert not policy.is_exhausted(7)
    policy.failed(7, 0, "computing: no", log="a.log", traceback="traceback")
    assert policy.is_exhausted(7)
    assert delays == [0.5, 2.0, 8.0]


@pytest.mark.parametrize(("blocks", "cost"), [((1,), 1), ((1, 2), 0), ((1, 2, 3), 0)])
def test_a_lost_worker_costs_an_attempt_only_of_a_block_that_was_alone_with_it(
    blocks: tuple[int, ...], cost: int
) -> None:
    policy = RetryPolicy(retries=2)
    policy.lost(blocks, "a.log")
    for block in blocks:
        assert policy.attempts(block).count == cost
        assert policy.must_be_alone(block)
        assert policy.may_go_to(block, 5, is_idle=True, others=True)
        assert not policy.may_go_to(block, 5, is_idle=False, others=False)
    assert not policy.must_be_alone(9)


def test_an_exception_says_more_than_a_lost_worker() -> None:
    policy = RetryPolicy(retries=2)
    policy.failed(1, 0, "computing: no", log="first.log", traceback="traceback")
    policy.lost([1], "second.log")
    attempts = policy.attempts(1)
    assert (attempts.error, attempts.log, attempts.count) == ("computing: no", "first.log", 2)
    policy.lost([2], "second.log")
    assert policy.attempts(2).error == LOST


def test_after_an_error_another_worker_tries_if_there_is_one() -> None:
    policy = RetryPolicy(retries=2)
    policy.failed(1, 3, "computing: no", log="", traceback="")
    assert not policy.may_go_to(1, 3, is_idle=True, others=True)
    assert policy.may_go_to(1, 3, is_idle=True, others=False)
    assert policy.may_go_to(1, 4, is_idle=False, others=True)


def test_blocks_that_were_done_in_the_end_do_not_stop_a_run() -> None:
    policy = RetryPolicy(retries=2)
    for block in range(1000):
        policy.failed(block, 0, "reading: the file server does not answer", log="", traceback="")
        policy.done(block)
    for block in range(1000):
        policy.lost([block], "")
        policy.done(block)
    assert policy.reason is None


@pytest.mark.parametrize(("slots", "errors"), [(1, 10), (4, 10), (6, 12), (100, 200)])
def test_many_errors_are_more_than_one_hiccup_of_all_slots(slots: int, errors: int) -> None:
    policy = RetryPolicy(retries=2)
    policy.observe_fleet(workers=1, slots=slots)
    policy.observe_fleet(workers=1, slots=1)
    for block in range(errors):
        assert policy.reason is None
        policy.failed(block, 0, f"reading: chunk {block}", log="", traceback="")
    assert policy.reason == (
        f"{errors} different blocks failed with the same error: reading: chunk {errors - 1}"
    )


@pytest.mark.parametrize(("workers", "lost"), [(1, 5), (4, 8), (50, 100)])
def test_many_lost_workers_are_more_than_one_outage(workers: int, lost: int) -> None:
    policy = RetryPolicy(retries=2)
    policy.observe_fleet(workers=workers, slots=workers)
    for block in range(lost):
        assert policy.reason is None
        policy.lost([block], "")
        # The same block again is no other one.
        policy.lost([block], "")
    assert policy.reason is not None
    assert policy.reason.startswith(f"{lost} different blocks took their worker with them")


def test_the_user_is_told_once_of_errors_that_differ_in_numbers() -> None:
    policy = RetryPolicy(retries=2)
    news = [
        policy.mark_reported(error) for error in ("chunk 1", "chunk 22", "out of memory", "chunk 3")
    ]
    assert news == [True, False, True, False]


class Failures(RuleBasedStateMachine):
    """Any order of failures: counts are what they should be, and a run stops when it should."""

    @initialize(retries=st.integers(0, 3), workers=st.integers(1, 4), slots=st.integers(1, 3))
    def begin(self, retries: int, workers: int, slots: int) -> None:
        self.policy = RetryPolicy(retries)
        self.policy.observe_fleet(workers=workers, slots=workers * slots)
        self.limit = retries + 1
        self.most = {LOST: max(5, 2 * workers)}
        self.most |= dict.fromkeys(ERRORS, max(10, 2 * workers * slots))
        self.counts: dict[int, int] = {}
        self.failing: dict[str, set[int]] = {kind: set() for kind in self.most}
        self.stopped = False

    def _count(self, block: int, kind: str) -> None:
        self.counts[block] = self.counts.get(block, 0) + 1
        self.failing[kind].add(block)
        self.stopped |= len(self.failing[kind]) >= self.most[kind]

    @rule(block=st.integers(0, 30), error=st.sampled_from(ERRORS))
    def fail(self, block: int, error: str) -> None:
        self.policy.failed(block, 0, error.format(block=block), log="", traceback="")
        self._count(block, error)
        assert not self.policy.must_be_alone(block)

    @rule(blocks=st.sets(st.integers(0, 30), max_size=3))
    def lose(self, blocks: set[int]) -> None:
        self.policy.lost(blocks, "")
        if len(blocks) == 1:
            self._count(*blocks, LOST)
        assert all(self.policy.must_be_alone(block) for block in blocks)

    @rule(block=st.integers(0, 30))
    def do(self, block: int) -> None:
        self.policy.done(block)
        self.counts.pop(block, None)
        for blocks in self.failing.values():
            blocks.discard(block)
        assert not self.policy.must_be_alone(block)

    @invariant()
    def it_counts(self) -> None:
        if not hasattr(self, "policy"):
            return
        for block in range(31):
            assert self.policy.attempts(block).count == self.counts.get(block, 0)
            assert self.policy.is_exhausted(block) == (self.counts.get(block, 0) >= self.limit)
        assert (self.policy.reason is not None) == self.stopped


TestFailures = Failures.TestCase
TestFailures.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
