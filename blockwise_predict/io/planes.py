"""Mean and standard deviation of patches in the z planes of a sample of an array."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blockwise_predict.io.sampling import ChunkGrid

# A chunk has two patches along y and x, if they are of at least so many voxels, and at most so many
# voxels of a patch count along each.
_MIN_PATCH, _MAX_PATCH = 8, 64

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Planes:
    """Mean and standard deviation of patches in the planes `z`, both [planes, patches].

    A patch is at the same place in all planes. It is NaN where its chunk is not stored or cannot be
    read, or holds NaN; a deviation is exactly 0 where all voxels of the patch are equal.
    """

    z: NDArray[np.int64]
    mean: Floats
    std: Floats


def measure_planes(grid: ChunkGrid) -> Planes | None:
    """Measure the sampled planes of chunks [z, y, x].

    None if the chunks are too large for a sample.
    """
    layers = grid.columns(0)
    if not layers:
        return None
    chunks = grid.read(list(itertools.chain.from_iterable(layers)))
    parts: list[tuple[Floats, Floats]] = []
    z: list[int] = []
    for layer in layers:
        patches = []
        for index, data in zip(layer, chunks, strict=False):
            begin, end = grid.box(index)
            patches += _measure(data, tuple(e - b for b, e in zip(begin, end, strict=True)))
        z += range(begin[0], end[0])
        means, stds = zip(*patches, strict=True)
        parts.append((np.stack(means, axis=1), np.stack(stds, axis=1)))
    return Planes(
        np.array(z),
        np.concatenate([mean for mean, _ in parts]),
        np.concatenate([std for _, std in parts]),
    )


def _measure(
    data: NDArray[np.generic] | None, shape: tuple[int, ...]
) -> list[tuple[Floats, Floats]]:
    """Mean and deviation of each plane of a chunk [C, z, y, x], for each of its patches."""
    unknown = np.full(shape[0], np.nan)
    measured = []
    for window in itertools.product(*map(_windows, shape[1:])):
        if data is None:
            measured.append((unknown, unknown))
            continue
        planes = np.moveaxis(data[(slice(None), slice(None), *window)], 1, 0)
        values = planes.reshape(shape[0], -1).astype(np.float64)
        with np.errstate(invalid="ignore", over="ignore"):
            mean, std = values.mean(axis=1), values.std(axis=1)
        std[values.max(axis=1) == values.min(axis=1)] = 0
        finite = np.isfinite(mean) & np.isfinite(std)
        measured.append((np.where(finite, mean, np.nan), np.where(finite, std, np.nan)))
    return measured


def _windows(size: int) -> list[slice]:
    count = 2 if size >= 2 * _MIN_PATCH else 1
    step = max(1, size // count // _MAX_PATCH)
    return [slice(size * n // count, size * (n + 1) // count, step) for n in range(count)]
