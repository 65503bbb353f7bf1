"""Which worker gets which block of an order."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockwise_predict.geometry.order import BlockOrder
from blockwise_predict.scheduling.blocks import DaisyBlockSource

ONE_COLUMN = BlockOrder((100,), 0, (100,))
# Two columns of eight blocks and two of four, of four layers each.
FOUR_COLUMNS = BlockOrder((4, 3, 2), 0, (4, 2, 1))


@contextmanager
def source(order: BlockOrder, *skipped: int, workers: int = 1) -> Iterator[DaisyBlockSource]:
    skip_mask = np.zeros(int(np.prod(order.grid)), np.uint8)
    skip_mask[list(skipped)] = 1
    with closing(DaisyBlockSource(order, skip_mask, workers)) as blocks:
        yield blocks


@settings(deadline=None, max_examples=50)
@given(
    skipped=st.sets(st.integers(0, 59)),
    asking=st.lists(st.integers(0, 5), max_size=90),
    workers=st.integers(1, 9),
    order=st.sampled_from(
        [
            BlockOrder((5, 3, 4), 0, (5, 2, 3)),
            BlockOrder((5, 3, 4), 2, (1, 1, 4)),
            BlockOrder((60,), 0, (60,)),
            BlockOrder.in_c_order((1, 5, 3, 4)),
        ]
    ),
)
def test_every_block_is_handed_out_once(
    skipped: set[int], asking: list[int], workers: int, order: BlockOrder
) -> None:
    with source(order, *skipped, workers=workers) as blocks:
        found = []
        for worker in [*asking, *[99] * 60]:
            assert blocks.empty == (len(found) == 60 - len(skipped))
            block = blocks.next(worker)
            if block is not None:
                found.append(block)
        assert blocks.next(0) is None
        assert sorted(found) == sorted(set(range(60)) - skipped)
        for block in found:
            blocks.finish(block)
        assert not blocks._held, "columns are still held"


def test_each_worker_gets_a_column() -> None:
    with source(FOUR_COLUMNS) as blocks:
        taken = {worker: [blocks.next(worker) for _ in range(4)] for worker in range(4)}
    assert taken == {0: [0, 2, 6, 8], 1: [1, 3, 7, 9], 2: [4, 10, 16, 22], 3: [5, 11, 17, 23]}


def test_a_column_of_skipped_blocks_goes_to_nobody() -> None:
    with source(FOUR_COLUMNS, 1, 3, 7, 9, 13, 15, 19, 21, 4) as blocks:
        assert [blocks.next(worker) for worker in range(3)] == [0, 10, 5]


def test_a_column_is_held_until_its_last_block_is_finished() -> None:
    with source(FOUR_COLUMNS, 4, 10) as blocks:
        for worker in range(3):
            blocks.next(worker)
        assert len(blocks._held) == 3
        assert blocks.next(2) == 22
        blocks.finish(16)
        assert len(blocks._held) == 3
        blocks.finish(22)
        assert len(blocks._held) == 2


def test_a_worker_that_comes_late_takes_over_half_of_the_longest_rest() -> None:
    with source(ONE_COLUMN) as blocks:
        assert [blocks.next(0) for _ in range(10)] == list(range(10))
        assert [blocks.next(1), blocks.next(1)] == [55, 56]
        assert blocks.next(0) == 10
        assert blocks.next(2) == 33


def test_workers_that_are_expected_share_what_columns_are_left_equally() -> None:
    with source(ONE_COLUMN, workers=3) as blocks:
        assert [blocks.next(worker) for worker in range(3)] == [0, 67, 34]
    with source(FOUR_COLUMNS, workers=6) as blocks:
        taken = [blocks.next(worker) for worker in range(6)]
    assert taken == [0, 1, 4, 5, 12, 13], "the larger columns are shared"


def test_the_rest_of_a_worker_that_left_is_done_by_others() -> None:
    with source(ONE_COLUMN) as blocks:
        gone = [blocks.next(0), blocks.next(1)]
        others = [blocks.next(2) for _ in range(98)]
    assert sorted(number for number in (*gone, *others) if number is not None) == list(range(100))


@pytest.mark.parametrize(
    "order",
    [
        BlockOrder((100, 100, 100), 1, (5, 100, 5)),
        BlockOrder((100, 100, 100), 0, (100, 1, 1)),
        BlockOrder.in_c_order((100, 100, 100)),
        BlockOrder((100, 100, 100), 0, (100, 100, 100)),
    ],
)
def test_a_million_blocks_of_which_few_are_left_start_at_once(order: BlockOrder) -> None:
    skip, left = np.ones(10**6, np.uint8), [3, 500_000, 999_999]
    skip[left] = 0
    begun = time.process_time()
    with closing(DaisyBlockSource(order, skip, workers=1)) as blocks:
        found = [blocks.next(worker) for worker in (0, 1, 2)]
    assert sorted(number for number in found if number is not None) == left
    assert time.process_time() - begun < 2
