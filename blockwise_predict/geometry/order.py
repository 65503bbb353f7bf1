"""The order of blocks: column by column, so that neighbours follow each other.

A grid of blocks is divided into columns, which are swept along one axis, layer by layer:

      columns of 2 x 2 blocks, swept along z     order in a layer     then the next layer
      +-------+-------+-------+                      0 1                   4 5
      |   0   |   1   |   2   |  ...                 2 3                   6 7
      +-------+-------+-------+

So what a layer shares with the next one is needed again after a layer of one column, and not after
a layer of the whole volume. Columns, and the blocks within a layer, are in C order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

# The places of a column's blocks along each axis of the grid.
Column = tuple[range, ...]


@dataclass(frozen=True)
class BlockOrder:
    """An order of the blocks of a grid.

    grid: number of blocks along each axis.
    swept: the axis along which a column is swept.
    column: number of blocks of a column along each axis; that of the swept axis is the grid's. The
        last column along an axis may have fewer.
    """

    grid: tuple[int, ...]
    swept: int
    column: tuple[int, ...]

    @classmethod
    def in_c_order(cls, grid: tuple[int, ...]) -> BlockOrder:
        """The order that numbers blocks: columns are the layers along the first axis that has
        several."""
        last = len(grid) - 1
        first = next((axis for axis in range(last) if grid[axis] > 1), None)
        if first is None:
            return cls(grid, last, grid)
        return cls(grid, first + 1, (*grid[:first], 1, *grid[first + 1 :]))

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes of a column, the one that changes most slowly first."""
        others = (axis for axis in range(len(self.grid)) if axis != self.swept)
        return (self.swept, *others)

    @property
    def columns(self) -> tuple[int, ...]:
        """Number of columns along each axis."""
        return tuple(-(-n // edge) for n, edge in zip(self.grid, self.column, strict=True))

    def column_at(self, place: Sequence[int]) -> Column:
        """The column at a place in the grid of columns."""
        axes = zip(place, self.column, self.grid, strict=True)
        return tuple(range(p * edge, min((p + 1) * edge, n)) for p, edge, n in axes)

    def index_of(self, number: int) -> tuple[int, ...]:
        """The place in the grid of the block with a number (in C order)."""
        index = []
        for count in reversed(self.grid):
            number, place = divmod(number, count)
            index.append(place)
        return tuple(reversed(index))

    def place_of(self, index: Sequence[int]) -> tuple[int, ...]:
        """The place, in the grid of columns, of the one with the block at `index`."""
        return tuple(place // edge for place, edge in zip(index, self.column, strict=True))

    def numbers(self, column: Column, begin: int, end: int) -> NDArray[np.int64]:
        """The numbers (in C order of the grid) of a column's blocks, from its `begin`-th to before
        its `end`-th."""
        sizes = [len(column[axis]) for axis in self.axes]
        inside = np.unravel_index(np.arange(begin, end), sizes)
        index = [column[axis].start + inside[self.axes.index(axis)] for axis in range(len(column))]
        return np.ravel_multi_index(index, self.grid).astype(np.int64, copy=False)


def num_blocks(column: Column) -> int:
    """Number of blocks in a column."""
    return prod(map(len, column))


def parts_of_columns(sizes: Sequence[int], workers: int) -> list[int]:
    """In how many parts columns of these sizes are divided, if more workers share them."""
    found = np.ones(len(sizes), np.int64)
    if sizes:
        for _ in range(workers - len(sizes)):
            found[np.argmax(np.asarray(sizes) / found)] += 1
    return found.tolist()
