"""The order in which blocks are handed out: column by column, so that neighbours follow each other.

A grid of blocks is divided into columns, which are swept along one axis, layer by layer:

      columns of 2 x 2 blocks, swept along z     order in a layer     then the next layer
      +-------+-------+-------+                      0 1                   4 5
      |   0   |   1   |   2   |  ...                 2 3                   6 7
      +-------+-------+-------+

So what a layer shares with the next one is needed again after a layer of one column, and not after
a layer of the whole volume. Columns, and the blocks within a layer, are in C order. A column that
is as large as the grid, swept along the first axis, is C order.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray


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
        """The order that numbers blocks."""
        return cls(grid, 0, grid)

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes of a column, the one that changes most slowly first."""
        others = (axis for axis in range(len(self.grid)) if axis != self.swept)
        return (self.swept, *others)

    def numbers(self, begin: int, end: int) -> NDArray[np.int64]:
        """The numbers (in C order) of the blocks at the positions `begin .. end` of this order."""
        rest = np.arange(begin, end, dtype=np.int64)
        # Blocks of the columns that agree along the axes so far, per block along those to come.
        wide = np.ones_like(rest)
        first, sizes = [], []
        for axis, (length, edge) in enumerate(zip(self.grid, self.column, strict=True)):
            each = wide * prod(self.grid[axis + 1 :])
            place = rest // (each * edge)
            rest = rest - place * each * edge
            first.append(place * edge)
            sizes.append(np.minimum(edge, length - place * edge))
            wide = wide * sizes[-1]
        index = list(first)
        for axis in reversed(self.axes):
            rest, inside = np.divmod(rest, sizes[axis])
            index[axis] = first[axis] + inside
        numbers = np.zeros_like(rest)
        for places, length in zip(index, self.grid, strict=True):
            numbers = numbers * length + places
        return numbers

    def column_of(self, index: tuple[int, ...]) -> list[range]:
        """The places of blocks along each axis that are in the column of the block at `index`."""
        found = []
        for place, edge, length in zip(index, self.column, self.grid, strict=True):
            begin = place - place % edge
            found.append(range(begin, min(begin + edge, length)))
        return found
