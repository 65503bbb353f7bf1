"""Which blocks and faces a sample is of: few, spread evenly, the same ones each time."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from blockwise_predict.report.blockgrid import BlockGrid
from blockwise_predict.report.quality.seams import DEPTH

# Maximum number of blocks, and of faces across each axis, that are read.
MAX_BLOCKS, MAX_FACES = 64, 24


@dataclass(frozen=True)
class Region:
    """A part of the ROI: blocks `begin .. end` (half-open) of the grid."""

    begin: tuple[int, ...]
    end: tuple[int, ...]

    def holds(self, index: Sequence[int]) -> bool:
        """Whether a block, by its place in the grid, is in it."""
        return all(b <= i < e for b, i, e in zip(self.begin, index, self.end, strict=True))


@dataclass(frozen=True)
class Face:
    """The face between two blocks, by number, that are neighbours along an axis."""

    axis: int
    low: int
    high: int


def regions(grid: BlockGrid) -> list[Region]:
    """The ROI halved along each axis that has several blocks: octants, in 3-D."""
    halves = [[(0, n)] if n < 2 else [(0, (n + 1) // 2), ((n + 1) // 2, n)] for n in grid.shape]
    return [
        Region(tuple(b for b, _ in bounds), tuple(e for _, e in bounds))
        for bounds in itertools.product(*halves)
    ]


def choose_blocks(grid: BlockGrid, predicted: NDArray[np.bool_], most: int) -> list[int]:
    """At most `most` predicted blocks, about as many in each region."""
    shaped = predicted.reshape(grid.shape)
    chosen: list[int] = []
    parts = regions(grid)
    for region in parts:
        box = tuple(slice(b, e) for b, e in zip(region.begin, region.end, strict=True))
        inside = np.stack(np.nonzero(shaped[box]), axis=1) + region.begin
        numbers = np.ravel_multi_index(tuple(inside.T), grid.shape)
        chosen += spread(numbers, max(1, most // len(parts)))
    return sorted(chosen[:most])


def choose_faces(
    grid: BlockGrid, predicted: NDArray[np.bool_], axes: Sequence[int], most: int
) -> list[Face]:
    """At most `most` faces across each of these axes, between predicted blocks that are not too
    thin."""
    shaped, numbers = predicted.reshape(grid.shape), np.arange(predicted.size).reshape(grid.shape)
    found = []
    for axis in axes:
        thick = np.diff(grid.edges[axis]) >= DEPTH
        low = [slice(None)] * len(grid.shape)
        high = list(low)
        low[axis], high[axis] = slice(0, -1), slice(1, None)
        both = shaped[tuple(low)] & shaped[tuple(high)]
        pairs = (thick[:-1] & thick[1:]).reshape([-1 if a == axis else 1 for a in range(both.ndim)])
        first, second = numbers[tuple(low)], numbers[tuple(high)]
        places = np.flatnonzero(both & pairs)
        for place in spread(places, most):
            found.append(Face(axis, int(first.flat[place]), int(second.flat[place])))
    return found


def spread(numbers: NDArray[np.integer], most: int) -> list[int]:
    """At most `most` of some numbers, spread over them by the golden ratio, which never falls into
    step with the rows of a grid."""
    if len(numbers) <= most:
        return [int(number) for number in numbers]
    places = ((np.arange(most) + 0.5) * (sqrt(5) - 1) / 2 % 1 * len(numbers)).astype(np.int64)
    return [int(number) for number in numbers[np.unique(places)]]
