"""The sample of an array: which chunks, and what they say of its values."""

from __future__ import annotations

from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from blockwise_predict.errors import ArrayError
from blockwise_predict.io import ChunkGrid, open_array, open_in_memory, sample_statistics
from blockwise_predict.io.sampling import SAMPLE_CHUNKS
from tests.support.runs import write_volume


class Chunks:
    """An array of chunks that are never read."""

    def __init__(self, shape: tuple[int, ...], chunk: tuple[int, ...]) -> None:
        self.shape, self.chunk_shape = shape, chunk
        self.dtype, self.channels = np.dtype(np.uint8), None


def grid_of(shape: tuple[int, ...], chunk: tuple[int, ...]) -> ChunkGrid:
    array: Any = Chunks(shape, chunk)
    return ChunkGrid(array, (0,) * len(shape), shape)


def test_a_sample_is_spread_over_every_axis() -> None:
    grid = grid_of((64_000, 64_000, 6400), (64, 64, 64))
    found = grid.spread()
    assert found == grid.spread()
    assert 0.9 * SAMPLE_CHUNKS < len(found) <= SAMPLE_CHUNKS
    for axis, indices in enumerate(grid.ranges):
        counts, _ = np.histogram([index[axis] for index in found], 8, (0, len(indices)))
        assert counts.min() > len(found) / 8 / 2


def test_small_arrays_are_sampled_completely_and_huge_chunks_once() -> None:
    assert len(grid_of((40, 40, 40), (16, 16, 16)).spread()) == 27
    assert len(grid_of((1 << 40, 1 << 40), (1 << 15, 1 << 15)).spread()) == 1
    assert grid_of((1 << 40, 1 << 40), (1 << 15, 1 << 15)).columns(0) == []


@pytest.mark.parametrize(
    ("shape", "chunk", "layers", "places"),
    [
        ((640, 640, 640), (64, 64, 64), 10, 4),
        ((64_000, 64_000, 64_000), (64, 64, 64), 64, 4),
        ((5000, 8192, 8192), (1, 2048, 2048), 4, 4),
        ((250, 250, 250), (250, 250, 250), 1, 1),
        ((90, 20, 16), (8, 16, 16), 12, 2),
    ],
)
def test_columns_go_through_the_whole_volume(
    shape: tuple[int, ...], chunk: tuple[int, ...], layers: int, places: int
) -> None:
    grid = grid_of(shape, chunk)
    found = grid.columns(0)
    assert [len(found), *{len(layer) for layer in found}] == [layers, places]
    assert len({tuple(index[1:] for index in layer) for layer in found}) == 1
    assert [found[0][0][0], found[-1][0][0]] == [0, (len(grid.ranges[0]) - 1) * (layers > 1)]
    assert all(one[0][0] < other[0][0] for one, other in pairwise(found))
    assert layers * places * prod(chunk) <= 64 << 20


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "bool"])
def test_statistics_are_those_of_numpy(dtype: str, tmp_path: Path) -> None:
    raw = (np.random.default_rng(0).normal(40, 30, (20, 36, 33)).clip(0, 255)).astype(dtype)
    array = open_array(write_volume(tmp_path / "v.zarr", raw))
    found = sample_statistics(ChunkGrid(array, (2, 3, 4), (19, 36, 32)))
    part = raw[2:19, 3:36, 4:32]
    assert found.voxels == part.size
    assert found.mean == pytest.approx(part.mean(dtype=float))
    assert found.std == pytest.approx(part.std(dtype=float))
    for percent in (0, 0.5, 1, 37.7, 99, 100):
        expected = np.percentile(part.astype(float), percent)
        assert found.percentile(percent) == pytest.approx(expected, abs=1e-12)


def test_of_floats_finite_values_of_a_fixed_number_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blockwise_predict.io.statistics.KEPT_VALUES", 1000)
    raw = np.random.default_rng(0).normal(5, 2, (40, 50, 60)).astype(np.float32)
    raw[::2, ::2] = np.nan
    found = sample_statistics(ChunkGrid(open_in_memory(raw), (0, 0, 0), raw.shape))
    assert found.voxels == pytest.approx(750, abs=75)
    assert (found.mean, found.std) == pytest.approx((5, 2), abs=0.3)


def test_missing_chunks_do_not_count(tmp_path: Path) -> None:
    raw = np.full((32, 16, 16), 7, np.uint8)
    path = write_volume(tmp_path / "v.zarr", raw)
    (Path(path) / "0.0.0").unlink()
    grid = ChunkGrid(open_array(path), (0, 0, 0), raw.shape)
    found = sample_statistics(grid)
    assert (found.mean, found.voxels) == (7, 16**3)
    assert "in 1 of 2 (the others are missing) chunks" in str(found)
    (Path(path) / "1.0.0").write_bytes(b"torn")
    with pytest.raises(ArrayError, match="no chunk of the sample"):
        sample_statistics(grid)
    zarr.open_array(path)[...] = 9
    assert sample_statistics(grid).mean == 9
