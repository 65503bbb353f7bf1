"""Which levels a pyramid has: their factors, shapes and voxel sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from blockwise_predict.geometry.grid import Lengths
from blockwise_predict.io import OutputArray


@dataclass(frozen=True)
class LevelPlan:
    """A level: `factors` relative to the level below, `total_factors` relative to the array."""

    factors: tuple[int, ...]
    total_factors: tuple[int, ...]
    shape: tuple[int, ...]
    voxel_size: Lengths


def plan_levels(output: OutputArray, count: int | None = None) -> list[LevelPlan]:
    """`count` levels, fewer if the last has one voxel; by default until one fits into a chunk."""
    spatial = range(output.axes.channel, output.dims)
    shape, sizes, total = output.shape, output.voxel_size, (1,) * output.dims
    levels: list[LevelPlan] = []
    while len(levels) < count if count is not None else not _fits(shape, output, spatial):
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


def _fits(shape: Sequence[int], output: OutputArray, spatial: Sequence[int]) -> bool:
    return all(shape[axis] <= output.chunk_shape[axis] for axis in spatial)
