"""Orders of blocks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from blockwise_predict.geometry.order import BlockOrder


def test_a_column_is_swept_layer_by_layer() -> None:
    order = BlockOrder((2, 3, 4), 0, (2, 2, 2))
    first, last = order.numbers(0, 8), order.numbers(20, 24)
    assert first.tolist() == [0, 1, 4, 5, 12, 13, 16, 17]
    assert last.tolist() == [10, 11, 22, 23], "the last column along y has one row"


@pytest.mark.parametrize(
    ("grid", "swept", "column"),
    [
        ((7,), 0, (7,)),
        ((5, 7), 1, (2, 7)),
        ((4, 6, 5), 1, (3, 6, 2)),
        ((2, 3, 5, 4), 3, (1, 2, 2, 4)),
    ],
)
def test_every_block_has_one_position(
    grid: tuple[int, ...], swept: int, column: tuple[int, ...]
) -> None:
    order, count = BlockOrder(grid, swept, column), int(np.prod(grid))
    numbers = order.numbers(0, count)
    assert sorted(numbers.tolist()) == list(range(count))
    parts = [order.numbers(begin, min(begin + 5, count)) for begin in range(0, count, 5)]
    assert np.concatenate(parts).tolist() == numbers.tolist()
    indices = [tuple(map(int, index)) for index in np.stack(np.unravel_index(numbers, grid), 1)]
    columns = [tuple(places.start for places in order.column_of(index)) for index in indices]
    changes = sum(a != b for a, b in itertools.pairwise(columns))
    assert changes + 1 == len(set(columns)), "a column's blocks follow each other"


def test_c_order_is_one_column() -> None:
    assert BlockOrder.in_c_order((3, 4, 5)).numbers(0, 60).tolist() == list(range(60))


def test_positions_of_a_billion_blocks_cost_nothing() -> None:
    order = BlockOrder((1000, 1000, 1000), 0, (1000, 4, 4))
    assert order.numbers(10**9 - 1, 10**9).tolist() == [10**9 - 1]
