"""Planes through an array for a picture, read at a bounded cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, prod

import numpy as np
from numpy.typing import NDArray

from blockwise_predict.errors import ArrayError
from blockwise_predict.io import BlockSource, InputArray, levels_beside

# Bounds of what is read for one plane: decoded bytes, and chunks (each is a request, or a file).
PLANE_BYTES = 128 << 20
PLANE_CHUNKS = 1000


@dataclass(frozen=True)
class Plane:
    """A plane [v, h] through an array, and the world box (nm) that it covers: `begin`, `end`."""

    data: NDArray[np.generic]
    begin: tuple[float, float]
    end: tuple[float, float]

    def turned(self) -> Plane:
        """The plane [h, v]."""
        return Plane(self.data.T, self.begin[::-1], self.end[::-1])


def levels_of(array: BlockSource) -> list[BlockSource]:
    """An array, and the levels of its multiscale group if it has one, the coarsest first."""
    found: list[BlockSource] = [array]
    if isinstance(array, InputArray):
        try:
            found += [level for level in levels_beside(array.path) if level.path != array.path]
        except (ArrayError, ValueError):
            return found
    return sorted(found, key=lambda level: prod(level.shape))


def read_plane(
    levels: Sequence[BlockSource], axis: int, at: Sequence[float], pixels: tuple[int, int]
) -> Plane | None:
    """The plane across a spatial axis, through the point `at` (world units of all axes).

    Of the levels, coarsest first, it is the first with at least as many voxels as `pixels`, or else
    the finest, among those that can be read within bounds. None if no level can.
    """
    best = None
    for level in levels:
        shape, chunk = list(level.shape), level.chunk_shape
        across = _across(level, axis)
        chunks = prod(ceil(shape[a] / chunk[a]) for a in across)
        size = chunks * prod(chunk) * level.dtype.itemsize * (level.channels or 1)
        if chunks > PLANE_CHUNKS or size > PLANE_BYTES:
            break
        best = level
        if all(shape[a] >= wanted for a, wanted in zip(across, pixels, strict=True)):
            break
    return None if best is None else _read(best, axis, at)


def _across(level: BlockSource, axis: int) -> tuple[int, int]:
    """The two spatial axes of a plane across another one, or (2-D) across none."""
    first = int(level.placement.grid.has_time)
    v, h = (a for a in range(first, len(level.shape)) if a != axis + first or _is_flat(level))
    return v, h


def _is_flat(level: BlockSource) -> bool:
    return len(level.shape) - level.placement.grid.has_time == 2


def _read(level: BlockSource, axis: int, at: Sequence[float]) -> Plane | None:
    grid, across = level.placement.grid, _across(level, axis)
    begin, end = [], []
    # A mask without time is that of every frame.
    points = at[len(at) - len(level.shape) :]
    for a, (size, point) in enumerate(zip(level.shape, points, strict=True)):
        index = int((point - float(grid.offset[a])) // float(grid.voxel_size[a]))
        if a not in across and not 0 <= index < size:
            return None
        begin.append(0 if a in across else index)
        end.append(size if a in across else index + 1)
    try:
        data = level.read(begin, end)[0]
    except (ValueError, ArrayError):
        # The blocks that need damaged chunks report it.
        return None
    low, high = grid.world(begin), grid.world(end)
    return Plane(
        data.reshape([level.shape[a] for a in across]),
        (float(low[across[0]]), float(low[across[1]])),
        (float(high[across[0]]), float(high[across[1]])),
    )
