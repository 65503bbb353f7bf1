"""Orders of blocks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from blockwise_predict.geometry.order import BlockOrder, num_blocks


def numbers(order: BlockOrder) -> list[list[int]]:
    """The blocks of each column."""
    columns = [order.column_at(place) for place in np.ndindex(*order.columns)]
    return [order.numbers(column, 0, num_blocks(column)).tolist() for column in columns]


def test_a_column_is_swept_layer_by_layer() -> None:
    first, *_, last = numbers(BlockOrder((2, 3, 4), 0, (2, 2, 2)))
    assert first == [0, 1, 4, 5, 12, 13, 16, 17]
    assert last == [10, 11, 22, 23], "the last column along y has one row"


@pytest.mark.parametrize(
    ("grid", "swept", "column"),
    [
        ((7,), 0, (7,)),
        ((5, 7), 1, (2, 7)),
        ((4, 6, 5), 1, (3, 6, 2)),
        ((2, 3, 5, 4), 3, (1, 2, 2, 4)),
    ],
)
def test_every_block_is_in_one_column(
    grid: tuple[int, ...], swept: int, column: tuple[int, ...]
) -> None:
    order = BlockOrder(grid, swept, column)
    found = numbers(order)
    assert sorted(itertools.chain(*found)) == list(range(int(np.prod(grid))))
    for place, blocks in zip(np.ndindex(*order.columns), found, strict=True):
        assert {order.place_of(order.index_of(number)) for number in blocks} == {place}
        inside = order.column_at(place)
        parts = [order.numbers(inside, begin, begin + 1) for begin in range(len(blocks))]
        assert np.concatenate(parts).tolist() == blocks


@pytest.mark.parametrize(
    ("grid", "columns"),
    [((3, 4, 5), (3, 1, 1)), ((1, 4, 5), (1, 4, 1)), ((1, 1, 5), (1, 1, 1)), ((6,), (1,))],
)
def test_c_order_has_layers_for_columns(grid: tuple[int, ...], columns: tuple[int, ...]) -> None:
    order = BlockOrder.in_c_order(grid)
    assert order.columns == columns
    assert list(itertools.chain(*numbers(order))) == list(range(int(np.prod(grid))))


def test_a_block_of_a_billion_is_found_at_once() -> None:
    order = BlockOrder((1000, 1000, 1000), 0, (1000, 4, 4))
    column = order.column_at((0, 249, 249))
    assert order.numbers(column, num_blocks(column) - 1, num_blocks(column)) == [10**9 - 1]
