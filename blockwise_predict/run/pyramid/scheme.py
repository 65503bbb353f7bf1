"""Which levels a pyramid has: their factors, shapes and voxel sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from blockwise_predict.geometry.grid import Lengths


@dataclass(frozen=True)
class Base:
    """The array that levels are made of: the first `frames` (0 or 1) of its axes are time."""

    shape: tuple[int, ...]
    voxel_size: Lengths
    chunk_shape: tuple[int, ...]
    frames: int


@dataclass(frozen=True)
class LevelPlan:
    """A level: `factors` relative to the level below, `total_factors` relative to the array."""

    factors: tuple[int, ...]
    total_factors: tuple[int, ...]
    shape: tuple[int, ...]
    voxel_size: Lengths


def plan_levels(base: Base, count: int | None = None) -> list[LevelPlan]:
    """`count` levels, fewer if the last has one voxel; by default until one fits into a chunk."""
    spatial = range(base.frames, len(base.shape))
    shape, sizes, total = base.shape, base.voxel_size, (1,) * len(base.shape)
    levels: list[LevelPlan] = []
    while len(levels) < count if count is not None else not _fits(shape, base, spatial):
        factors = level_factors(shape, sizes, spatial)
        if max(factors) == 1:
            break
        shape = tuple(-(-n // f) for n, f in zip(shape, factors, strict=True))
        sizes = tuple(size * f for size, f in zip(sizes, factors, strict=True))
        total = tuple(t * f for t, f in zip(total, factors, strict=True))
        levels.append(LevelPlan(factors, total, shape, sizes))
    return levels


def level_factors(
    shape: Sequence[int], voxel_size: Lengths, spatial: Sequence[int]
) -> tuple[int, ...]:
    """1 or 2 for each axis: which of the `spatial` axes the next level halves.

    An axis waits while its voxel is more than sqrt(2) times the smallest one, which brings voxels
    closest to cubes: 40 x 4 x 4 becomes 40 x 8 x 8, 40 x 16 x 16, 40 x 32 x 32, 80 x 64 x 64. Axes
    of one voxel stay.
    """
    halved = [axis for axis in spatial if shape[axis] > 1]
    smallest = min((voxel_size[axis] for axis in halved), default=0)
    halved = [axis for axis in halved if voxel_size[axis] ** 2 <= 2 * smallest**2]
    return tuple(2 if axis in halved else 1 for axis in range(len(shape)))


def _fits(shape: Sequence[int], base: Base, spatial: Sequence[int]) -> bool:
    return all(shape[axis] <= base.chunk_shape[axis] for axis in spatial)
