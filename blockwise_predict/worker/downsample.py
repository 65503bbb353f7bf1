"""Downsampling an array by factors of 1 and 2: the mean or the most frequent value of each cell."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, product
from typing import Any

import numpy as np

from blockwise_predict.io.downsampled import Method

Array = np.ndarray[Any, Any]


def downsample(data: Array, factors: Sequence[int], method: Method) -> Array:
    """The value of each cell of `factors` voxels of `data` [C, *spatial], in the same data type.

    Cells that reach beyond the data's end count the voxels that are there. mean: as numpy's, of
    float64 for floats; exact for integers, rounded half to even. mode: the most frequent value, the
    smallest of several such.
    """
    # Repeating the last voxel changes neither mean nor mode of what is there.
    missing = [(0, -n % f) for n, f in zip(data.shape[1:], factors, strict=True)]
    data = np.pad(data, [(0, 0), *missing], mode="edge")
    halved = [axis for axis, factor in enumerate(factors, 1) if factor == 2]
    if not halved:
        return data
    if method == "mode":
        return _mode(data, halved)
    return _float_mean(data, halved) if data.dtype.kind == "f" else _integer_mean(data, halved)


def _pair_sums(data: Array, halved: Sequence[int]) -> Array:
    """Sums of cells; axis by axis, so that they do not depend on where blocks begin."""
    for axis in halved:
        even, odd = _halves(data, axis)
        data = even + odd
    return data


def _halves(data: Array, axis: int) -> tuple[Array, Array]:
    before = (slice(None),) * axis
    return data[(*before, slice(0, None, 2))], data[(*before, slice(1, None, 2))]


def _float_mean(data: Array, halved: Sequence[int]) -> Array:
    # Infinities of both signs have no mean: NaN.
    with np.errstate(invalid="ignore", over="ignore"):
        sums = _pair_sums(data.astype(np.float64), halved)
        return (sums / (1 << len(halved))).astype(data.dtype)


def _integer_mean(data: Array, halved: Sequence[int]) -> Array:
    """The exact mean, rounded half to even."""
    bits = len(halved)
    mask = (1 << bits) - 1
    if data.dtype.itemsize < 8:
        sums = _pair_sums(data.astype(f"{data.dtype.kind}{2 * data.dtype.itemsize}"), halved)
        whole, rest = sums >> bits, sums & mask
    else:
        # There is no wider type, so quotients and remainders are summed apart.
        rest = _pair_sums(data & data.dtype.type(mask), halved)
        whole = _pair_sums(data >> data.dtype.type(bits), halved) + (rest >> bits)
        rest &= mask
    half = 1 << (bits - 1)
    up = (rest > half) | ((rest == half) & (whole & 1 == 1))
    return (whole + up).astype(data.dtype)


def _mode(data: Array, halved: Sequence[int]) -> Array:
    windows = product(*((0, 1) if axis in halved else (None,) for axis in range(data.ndim)))
    cells = np.sort(
        np.stack(
            [
                data[tuple(slice(None) if start is None else slice(start, None, 2) for start in w)]
                for w in windows
            ]
        ),
        axis=0,
    )
    best, best_run = cells[0].copy(), np.ones(cells.shape[1:], np.uint8)
    run = best_run.copy()
    for before, cell in pairwise(cells):
        run = np.where(cell == before, run + 1, 1).astype(np.uint8)
        longer = run > best_run
        best[longer], best_run[longer] = cell[longer], run[longer]
    return best
