"""Planes through an array for a picture, read at a bounded cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, prod

import numpy as np
from numpy.typing import NDArray

from blockwise_predict.errors import ArrayError
from blockwise_predict.io import BlockSource, InputArray, levels_beside

# Bounds of what is read for one plane: decoded bytes, and chunks (each is a request, or a file).
PLANE_BYTES = 128 << 20
PLANE_CHUNKS = 1000


Pair = tuple[float, float]


@dataclass(frozen=True)
class Plane:
    """A plane [C, v, h] through an array, and the world box (nm) that it covers: `begin`, `end`."""

    data: NDArray[np.generic]
    begin: Pair
    end: Pair

    def turned(self) -> Plane:
        """The plane [C, h, v]."""
        return Plane(self.data.swapaxes(1, 2), self.begin[::-1], self.end[::-1])


@dataclass(frozen=True)
class Cut:
    """A plane to read: across a spatial axis, through the point `at` (world units of all axes).

    Of the other two axes `begin` to `end`, shown with `pixels`.
    """

    axis: int
    at: tuple[float, ...]
    begin: Pair
    end: Pair
    pixels: tuple[int, int]


def levels_of(array: BlockSource) -> list[BlockSource]:
    """An array, and the levels of its multiscale group if it has one, the coarsest first."""
    found: list[BlockSource] = [array]
    if isinstance(array, InputArray):
        try:
            found += [level for level in levels_beside(array.path) if level.path != array.path]
        except (ArrayError, ValueError):
            return found
    return sorted(found, key=lambda level: prod(level.shape))


def read_plane(levels: Sequence[BlockSource], cut: Cut) -> Plane | None:
    """A plane of the array with these levels, coarsest first.

    It is read from the first with at least as many voxels as pixels, or else the finest, among
    those that can be read within bounds. None if no level can, or if none of it is there.
    """
    best = None
    for level in levels:
        begin, end = _box(level, cut)
        across = _across(level, cut.axis)
        if any(b >= e for b, e in zip(begin, end, strict=True)):
            return None
        ranges = [
            -(-e // chunk) - b // chunk
            for b, e, chunk in zip(begin, end, level.chunk_shape, strict=True)
        ]
        chunks = prod(ranges)
        size = chunks * prod(level.chunk_shape) * level.dtype.itemsize * (level.channels or 1)
        if chunks > PLANE_CHUNKS or size > PLANE_BYTES:
            break
        best = level
        if all(end[a] - begin[a] >= n for a, n in zip(across, cut.pixels, strict=True)):
            break
    return None if best is None else _read(best, cut)


def _across(level: BlockSource, axis: int) -> tuple[int, int]:
    """The two spatial axes of a plane across another one, or (2-D) across none."""
    first = int(level.placement.grid.has_time)
    spatial = range(first, len(level.shape))
    v, h = (a for a in spatial if a != axis + first or len(spatial) == 2)
    return v, h


def _box(level: BlockSource, cut: Cut) -> tuple[list[int], list[int]]:
    """The voxels of a plane, cut at the array's end."""
    grid, across = level.placement.grid, _across(level, cut.axis)
    begin, end = [], []
    # A mask without time is that of every frame.
    points = cut.at[len(cut.at) - len(level.shape) :]
    for a, (size, point) in enumerate(zip(level.shape, points, strict=True)):
        low = high = point
        if a in across:
            low, high = (edge[across.index(a)] for edge in (cut.begin, cut.end))
        offset, voxel = float(grid.offset[a]), float(grid.voxel_size[a])
        first = floor((low - offset) / voxel)
        last = ceil((high - offset) / voxel) if a in across else first + 1
        begin.append(min(max(0, first), size))
        end.append(min(max(0, last), size))
    return begin, end


def _read(level: BlockSource, cut: Cut) -> Plane | None:
    grid, across = level.placement.grid, _across(level, cut.axis)
    begin, end = _box(level, cut)
    try:
        data = level.read(begin, end)
    except (ValueError, ArrayError):
        # The blocks that need damaged chunks report it.
        return None
    low, high = grid.world(begin), grid.world(end)
    return Plane(
        data.reshape([len(data), *(end[a] - begin[a] for a in across)]),
        (float(low[across[0]]), float(low[across[1]])),
        (float(high[across[0]]), float(high[across[1]])),
    )
