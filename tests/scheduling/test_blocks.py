"""Which worker gets which block of an order."""

from __future__ import annotations

import time

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from blockwise_predict.geometry.order import BlockOrder
from blockwise_predict.scheduling.blocks import OrderedBlocks


def nothing_done(count: int) -> np.ndarray:
    return np.zeros(count, np.uint8)


@settings(deadline=None, max_examples=50)
@given(
    skip=st.lists(st.booleans(), min_size=1, max_size=200),
    asking=st.lists(st.integers(0, 5), max_size=300),
)
def test_every_block_is_handed_out_once(skip: list[bool], asking: list[int]) -> None:
    blocks = OrderedBlocks(BlockOrder.in_c_order((len(skip),)), np.array(skip, np.uint8))
    handed_out = [blocks.next(worker) for worker in asking]
    while not blocks.empty:
        handed_out.append(blocks.next(99))
    assert blocks.next(0) is None
    found = [block for block in handed_out if block is not None]
    assert sorted(found) == [number for number, skipped in enumerate(skip) if not skipped]


def test_each_worker_gets_blocks_that_follow_each_other() -> None:
    blocks = OrderedBlocks(BlockOrder.in_c_order((64,)), nothing_done(64))
    given = {worker: [blocks.next(worker)] for worker in range(4)}
    for _ in range(15):
        for worker, numbers in given.items():
            numbers.append(blocks.next(worker))
    assert blocks.empty
    for numbers in given.values():
        steps = np.diff(np.array(numbers))
        assert (steps == 1).sum() >= len(steps) - 1


def test_a_worker_that_comes_late_takes_over_half_of_the_longest_run() -> None:
    blocks = OrderedBlocks(BlockOrder.in_c_order((100,)), nothing_done(100))
    assert [blocks.next(0) for _ in range(10)] == list(range(10))
    assert [blocks.next(1), blocks.next(1)] == [55, 56]
    assert blocks.next(0) == 10
    assert blocks.next(2) == 33


def test_the_rest_of_a_worker_that_left_is_done_by_others() -> None:
    blocks = OrderedBlocks(BlockOrder.in_c_order((50,)), nothing_done(50))
    gone = [blocks.next(0), blocks.next(1)]
    others = [blocks.next(2) for _ in range(48)]
    assert sorted(number for number in (*gone, *others) if number is not None) == list(range(50))


def test_a_million_blocks_of_which_few_are_left_start_at_once() -> None:
    skip = np.ones(10**6, np.uint8)
    left = [3, 500_000, 999_999]
    skip[left] = 0
    order = BlockOrder((100, 100, 100), 1, (5, 100, 5))
    begun = time.process_time()
    blocks = OrderedBlocks(order, skip)
    found = [blocks.next(worker) for worker in (0, 1, 2)]
    assert sorted(number for number in found if number is not None) == left
    assert time.process_time() - begun < 2
