"""The voxels of a level: the mean, rounded half to even, or the mode of what each cell holds."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from blockwise_predict.geometry.grid import exact_lengths
from blockwise_predict.run.pyramid.scheme import level_factors
from blockwise_predict.worker.downsample import downsample

SHAPE, FACTORS = (2, 3, 4, 5), (1, 2, 2)


def cells(data: np.ndarray, factors: tuple[int, ...]):
    """The index of each cell, and the values in it."""
    counts = [-(-n // f) for n, f in zip(data.shape[1:], factors, strict=True)]
    for channel, *index in product(range(len(data)), *map(range, counts)):
        window = tuple(slice(i * f, (i + 1) * f) for i, f in zip(index, factors, strict=True))
        yield (channel, *index), data[channel][window].ravel()


@pytest.mark.parametrize("factors", [FACTORS, (2, 2, 2)])
@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int32", "uint64", "int64"])
def test_the_mean_of_integers_is_exact(dtype, factors):
    limits = np.iinfo(dtype)
    random = np.random.default_rng(0)
    whole = random.integers(limits.min, limits.max, SHAPE, dtype, endpoint=True)
    small = random.integers(0, 4, SHAPE).astype(dtype)
    for data in (whole, small, np.full(SHAPE, limits.max), np.full(SHAPE, limits.min)):
        found = downsample(data.astype(dtype), factors, "mean")
        assert found.dtype == dtype
        for index, values in cells(data, factors):
            # Python rounds ratios half to even.
            assert found[index] == round(Fraction(sum(map(int, values)), len(values)))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_mean_of_floats_is_numpys(dtype):
    data = np.random.default_rng(0).normal(size=SHAPE).astype(dtype)
    data[0, 0, 0, 0], data[1, 0, 0, 0], data[1, 0, 0, 1] = np.nan, np.inf, -np.inf
    found = downsample(data, FACTORS, "mean")
    assert found.dtype == dtype
    with np.errstate(invalid="ignore"):
        for index, values in cells(data, FACTORS):
            expected = values.mean(dtype=np.float64).astype(dtype)
            np.testing.assert_allclose(found[index], expected, rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize("factors", [FACTORS, (2, 2, 2)])
@pytest.mark.parametrize("dtype", ["uint8", "uint64", "float32"])
def test_the_mode_is_the_smallest_of_the_most_frequent_values(dtype, factors):
    data = np.random.default_rng(0).integers(0, 4, (2, 7, 8, 9)).astype(dtype)
    found = downsample(data, factors, "mode")
    assert found.dtype == dtype
    for index, values in cells(data, factors):
        counts = Counter(values.tolist())
        assert found[index] == min(counts, key=lambda value: (-counts[value], value))


@pytest.mark.parametrize(
    ("voxel_size", "expected"),
    [
        (("40", "4", "4"), [(1, 2, 2), (1, 2, 2), (1, 2, 2), (2, 2, 2)]),
        (("4.24", "4", "4"), [(2, 2, 2)] * 4),
        (("8", "4", "4"), [(1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2)]),
        (("6", "4", "4"), [(1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2)]),
    ],
)
def test_axes_of_large_voxels_wait(voxel_size, expected):
    sizes, found = exact_lengths(voxel_size), []
    for _ in expected:
        found.append(level_factors((999, 999, 999), sizes, range(3)))
        sizes = tuple(size * f for size, f in zip(sizes, found[-1], strict=True))
    assert found == expected


def test_axes_of_one_voxel_and_time_stay():
    sizes = exact_lengths((1, 4, 4))
    assert level_factors((1, 20, 20), sizes, range(3)) == (1, 2, 2)
    assert level_factors((20, 20, 20), sizes, range(1, 3)) == (1, 2, 2)
    assert level_factors((1, 1, 1), sizes, range(3)) == (1, 1, 1)
