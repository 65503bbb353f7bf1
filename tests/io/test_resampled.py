"""Arrays that are resampled as they are read."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockwise_predict.errors import ArrayError
from blockwise_predict.io import (
    BadInputError,
    CheckedInput,
    ResampledArray,
    missing_sample,
    open_in_memory,
    open_input,
    sample_digests,
)
from tests.support.arrays import lengths, write_array

NM = {"voxel_size": [8, 6, 4], "offset": [100, -6, 2], "axis_names": list("zyx")}


def place(array: ResampledArray, axis: int) -> np.ndarray:
    """The centres (nm) of an array's voxels along an axis."""
    begin, size = array.offset[axis], array.voxel_size[axis]
    return np.array([float(begin + (i + Fraction(1, 2)) * size) for i in range(array.shape[axis])])


@pytest.mark.parametrize(
    "size", [(4, 3, 2), (16, 12, 8), (8, "7.5", 5), ("5.3", "4.24", "3.9"), (24, 18, "4.004")]
)
def test_a_ramp_in_nm_has_its_value_at_every_centre(size: tuple[object, ...]) -> None:
    shape, nm = (40, 38, 36), (8, 6, 4)
    grids = np.meshgrid(*(np.arange(n) + 0.5 for n in shape), indexing="ij")
    slopes, begin = (1, 1000, -7), (100, -6, 2)
    ramp = sum(s * (b + g * v) for s, b, g, v in zip(slopes, begin, grids, nm, strict=True))
    source = open_in_memory(ramp, voxel_size=nm, offset=begin)
    array = ResampledArray(source, lengths(*size))
    assert array.offset == source.offset
    found = array.read((0, 0, 0), array.shape)[0]
    places = [place(array, axis) for axis in range(3)]
    inner = []
    for centres, low, n, stored, new in zip(places, begin, shape, nm, size, strict=True):
        half = max(stored, float(new))
        inner.append((centres > low + half) & (centres < low + n * stored - half))
    grids = np.meshgrid(*(c[i] for c, i in zip(places, inner, strict=True)), indexing="ij")
    expected = sum(slope * grid for slope, grid in zip(slopes, grids, strict=True))
    assert expected.size > 200
    np.testing.assert_allclose(found[np.ix_(*inner)], expected, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_a_voxel_has_one_value_whatever_is_read_with_it(dtype: str) -> None:
    data = np.random.default_rng(0).integers(0, 256, (2, 23, 20, 17)).astype(dtype)
    if dtype == "float32":
        data[0, 4:7, 3, 9] = np.nan
    source = open_in_memory(data, voxel_size=(8, 6, 4), axis_names=["c^", "z", "y", "x"])
    array = ResampledArray(source, lengths(3, "6.36", 10))
    assert array.shape == (61, 19, 7)
    assert array.dtype == np.float32
    everything = array.read((0, 0, 0), array.shape)

    @given(st.data())
    @settings(max_examples=20, deadline=None)
    def equal(drawn: st.DataObject) -> None:
        begin = [drawn.draw(st.integers(0, n - 1)) for n in array.shape]
        end = [drawn.draw(st.integers(b + 1, n)) for b, n in zip(begin, array.shape, strict=True)]
        part = everything[(slice(None), *map(slice, begin, end))]
        assert array.read(begin, end).tobytes() == part.tobytes()

    equal()


def test_frames_stay_and_their_planes_are_resampled() -> None:
    data = np.random.default_rng(0).integers(0, 256, (3, 6, 10, 8), np.uint8)
    source = open_in_memory(data, voxel_size=(2, 8, 4, 4), axis_names=["t", "z", "y", "x"])
    array = ResampledArray(source, lengths(2, 4, 8, 8))
    assert array.shape == (3, 12, 5, 4)
    frame = open_in_memory(data[1], voxel_size=(8, 4, 4))
    alone = ResampledArray(frame, lengths(4, 8, 8))
    np.testing.assert_array_equal(
        array.read((1, 0, 0, 0), (2, 12, 5, 4))[:, 0], alone.read((0, 0, 0), alone.shape)
    )


def test_what_is_stored_is_checked_chunk_by_chunk(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(1, 256, (16, 16, 16), np.uint8)
    path = write_array(tmp_path, "zarr2", data, NM)
    (path / "0.0.0").unlink()
    (path / "1.1.1").write_bytes(b"damaged")
    array = ResampledArray(open_input(path), lengths(4, 12, 8))
    assert array.chunk_shape == (8, 2, 2)
    assert missing_sample(array, (0, 0, 0), array.shape) == (1, 64)
    assert set(sample_digests(array)) == {"8,8,8", "12,12,12"}
    filled = data.copy()
    filled[:4, :4, :4] = filled[4:8, 4:8, 4:8] = 0
    expected = ResampledArray(open_in_memory(filled, voxel_size=(8, 6, 4)), array.voxel_size)
    checked = CheckedInput(array, "fill")
    begin, end = (0, 0, 0), array.shape
    np.testing.assert_array_equal(checked.read(begin, end), expected.read(begin, end))
    assert checked.filled == 2
    assert checked.note.endswith("the chunk at voxel (0, 0, 0) is not stored")
    with pytest.raises(BadInputError):
        CheckedInput(array, "fill-missing").read(begin, end)
    with pytest.raises(BadInputError, match=r"voxel \(0, 0, 0\) is not stored"):
        CheckedInput(array, "fail").read((0, 0, 0), (1, 1, 1))
    # The first voxels beyond it that none of its voxels counts for.
    CheckedInput(array, "fail").read((9, 0, 0), (12, 1, 1))
    assert not array.is_stored((8, 0, 0), (9, 1, 1))


def test_an_array_of_no_voxels() -> None:
    source = open_in_memory(np.zeros((1, 9, 9), np.uint8), voxel_size=(8, 4, 4))
    with pytest.raises(ArrayError, match="too thin to be resampled to voxels of 16 x 4 x 4 nm"):
        ResampledArray(source, lengths(16, 4, 4))
