"""Reading: every format, data type and order of axes gives the same voxels."""

from __future__ import annotations

import functools
import http.server
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import tensorstore as ts
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from blockwise_predict.errors import ArrayError
from blockwise_predict.io import describe_array, guess_format, open_input
from tests.support.arrays import FORMATS, lengths, ramp, write_array, write_json
from tests.support.shared import shared_path
from tests.support.webserver import served_by

VOXELS = {"voxel_size": lengths(10, 8, 8)}
DTYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int64", "uint64", "float32", "float64"]


def whole(array):
    return array.read((0,) * array.dims, array.shape)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_round_trip_of_every_format_and_dtype(tmp_path, kind, dtype):
    data = ramp((5, 9, 11), dtype)
    array = open_input(write_array(tmp_path, kind, data), **VOXELS)
    assert array.format == kind.split("-")[0]
    assert (array.shape, array.channels, array.dtype) == ((5, 9, 11), None, data.dtype)
    assert array.chunk_shape == (4, 4, 4)
    np.testing.assert_array_equal(whole(array), data[None], strict=True)


@pytest.mark.parametrize(
    ("dtype", "read_as"), [("bool", "uint8"), ("float16", "float16"), (">u2", "uint16")]
)
def test_unusual_numbers(tmp_path, dtype, read_as):
    data = (ramp((5, 6, 7)) % 2).astype(dtype)
    array = open_input(write_array(tmp_path, "zarr2", data), **VOXELS)
    np.testing.assert_array_equal(whole(array), data[None].astype(read_as), strict=True)


def test_bfloat16_is_read_as_float32(tmp_path):
    metadata = {"shape": [4, 4, 4], "data_type": "bfloat16"}
    kvstore = {"driver": "file", "path": f"{tmp_path}/a.zarr/raw/"}
    store = ts.open({"driver": "zarr3", "kvstore": kvstore, "metadata": metadata}, create=True)
    store.result()[...] = 1.5
    array = open_input(tmp_path / "a.zarr" / "raw", **VOXELS)
    assert array.dtype == np.float32
    assert (whole(array) == 1.5).all()


def test_complex_numbers_are_refused(tmp_path):
    path = write_array(tmp_path, "zarr2", np.zeros((4, 4, 4), "complex64"))
    with pytest.raises(ArrayError, match=r"complex64.*integers or real numbers"):
        open_input(path, **VOXELS)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("channel_axis", [0, 1, 3])
def test_channel_axis_anywhere_by_its_name(tmp_path, kind, channel_axis):
    data = ramp((2, 5, 9, 11))
    stored = np.moveaxis(data, 0, channel_axis)
    names = ["z", "y", "x"]
    names.insert(channel_axis, "c^")
    attributes = {"axes": names[::-1]} if kind == "n5" else {"axis_names": names}
    array = open_input(write_array(tmp_path, kind, stored, attributes), **VOXELS)
    assert (array.shape, array.channels) == ((5, 9, 11), 2)
    np.testing.assert_array_equal(whole(array), data)
    np.testing.assert_array_equal(array.read((1, 2, 3), (2, 9, 7)), data[:, 1:2, 2:9, 3:7])


@pytest.mark.parametrize("shape", [(3, 9, 8, 11), (9, 8, 11, 3)])
def test_channel_axis_without_names_is_the_shortest(tmp_path, shape):
    array = open_input(write_array(tmp_path, "zarr3", ramp(shape)), **VOXELS)
    assert (array.shape, array.channels) == ((9, 8, 11), 3)
    assert "taken as channels, being the shortest" in array.placement.notes[0]


def test_channel_axis_that_stays_unclear_is_refused(tmp_path):
    path = write_array(tmp_path, "zarr3", ramp((5, 5, 8, 9)))
    with pytest.raises(ArrayError, match=r"which axis is the channel\? .*axis_names"):
        open_input(path, **VOXELS)


def test_channel_axis_from_dimension_names(tmp_path):
    path = tmp_path / "a.zarr" / "raw"
    zarr.create_array(
        path, shape=(9, 9, 9, 9), dtype="uint8", dimension_names=["z", "y", "x", "channel"]
    )
    array = open_input(path, **VOXELS)
    assert array.channels == 9
    assert array.storage.axes.kinds[-1] == "channel"


def test_two_dimensions(tmp_path):
    data = ramp((9, 11))
    array = open_input(write_array(tmp_path, "zarr2", data), voxel_size=lengths(4, 4))
    assert array.placement.axis_names == ("y", "x")
    np.testing.assert_array_equal(whole(array), data[None])


def test_voxels_outside_of_the_array(tmp_path):
    array = open_input(write_array(tmp_path, "zarr3", ramp((5, 6, 7))), **VOXELS)
    for begin, end in [((-1, 0, 0), (2, 2, 2)), ((0, 0, 0), (6, 6, 7)), ((2, 2, 2), (2, 3, 3))]:
        with pytest.raises(ValueError, match="are not within"):
            array.read(begin, end)


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """Every format, with and without channels: (data with channels first, input)."""
    arrays = []
    for kind in FORMATS:
        for shape in [(7, 10, 13), (3, 7, 10, 13)]:
            data = ramp(shape, "uint16")
            path = write_array(tmp_path_factory.mktemp("arrays"), kind, data)
            arrays.append((data.reshape(-1, *shape[-3:]), open_input(path, **VOXELS)))
    return arrays


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_region_is_the_slice_that_numpy_takes(opened, draw):
    data, array = draw.draw(st.sampled_from(opened))
    begin = tuple(draw.draw(st.integers(0, length - 1)) for length in array.shape)
    end = tuple(
        draw.draw(st.integers(b + 1, length)) for b, length in zip(begin, array.shape, strict=True)
    )
    expected = data[(slice(None), *(slice(b, e) for b, e in zip(begin, end, strict=True)))]
    np.testing.assert_array_equal(array.read(begin, end), expected, strict=True)


def test_an_array_that_is_not_there_names_those_that_are(tmp_path):
    write_array(tmp_path, "zarr2", ramp((4, 4, 4)))
    container = tmp_path / "volume.zarr"
    write_json(container / ".zgroup", {"zarr_format": 2})
    with pytest.raises(ArrayError, match=f"there is no zarr.*{container}/raw"):
        open_input(container / "typo" / "s0", **VOXELS)
    with pytest.raises(ArrayError, match=f"is a group, not an array.*{container}/raw"):
        open_input(container, **VOXELS)
    with pytest.raises(ArrayError, match=f"exists only as far as {tmp_path}"):
        open_input(tmp_path / "nothing" / "here.zarr" / "raw", **VOXELS)


def test_metadata_that_is_not_json(tmp_path):
    path = write_array(tmp_path, "zarr3", ramp((4, 4, 4)))
    (path / "zarr.json").write_text("{")
    with pytest.raises(ArrayError, match=r"raw/zarr.json is not valid JSON"):
        open_input(path, **VOXELS)


def test_a_codec_that_is_unknown_is_named(tmp_path):
    path = write_array(tmp_path, "zarr2", ramp((4, 4, 4)))
    write_json(path / ".zarray", {"compressor": {"id": "lzma"}})
    with pytest.raises(ArrayError, match=r"cannot open .*raw: .*lzma"):
        open_input(path, **VOXELS)


def test_over_http(tmp_path):
    data = ramp((5, 6, 7))
    write_array(tmp_path, "zarr3", data, {"voxel_size": [8, 8, 8], "axis_names": ["z", "y", "x"]})
    handler = functools.partial(_QuietHandler, directory=str(tmp_path))
    with served_by(handler) as address:
        array = open_input(f"{address}/volume.zarr/raw")
        np.testing.assert_array_equal(whole(array), data[None])
        with pytest.raises(ArrayError, match="no zarr, N5 or precomputed array"):
            open_input(f"{address}/volume.zarr/typo")


class _QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.mark.parametrize("kind", ["zarr2", "zarr3", "n5"])
def test_guess_format_of_what_is_there(tmp_path, kind):
    path = write_array(tmp_path, kind, ramp((4, 4, 4)))
    assert guess_format(path) == kind


def test_guess_format_by_name(tmp_path):
    assert guess_format(tmp_path / "new.n5" / "a") == "n5"
    assert guess_format(tmp_path / "new.zarr" / "a") is None
    zarr.create_group(tmp_path / "old.zarr", zarr_format=2)
    assert guess_format(tmp_path / "old.zarr" / "g" / "a") == "zarr2"


def test_the_fibsem_volume():
    array = open_input(shared_path("data/flyem-medulla.zarr") / "sample1" / "raw")
    assert array.shape == (250, 250, 250)
    assert array.placement.voxel_size == (Fraction(10),) * 3
    assert array.placement.offset == (Fraction(0),) * 3
    assert array.placement.notes == ()


def test_description_for_people(tmp_path):
    attributes = {"voxel_size": [4.24, 4, 4], "axis_names": ["c^", "z", "y", "x"], "units": "nm"}
    path = write_array(tmp_path, "zarr3-sharded", ramp((2, 5, 9, 11)), attributes)
    rows = dict(describe_array(open_input(path)))
    assert rows["format"] == "zarr 3"
    assert rows["shape"] == "5 x 9 x 11 voxels (z, y, x)"
    assert rows["channels"] == "2"
    assert (rows["chunks"], rows["shards"]) == ("4 x 4 x 4 x 4", "8 x 8 x 8 x 8")
    assert "zstd" in rows["compression"]
    assert rows["voxel size"] == "4.24 x 4 x 4 nm, from attribute 'voxel_size' of raw/zarr.json"
    assert rows["offset"] == "0 x 0 x 0 nm, from none found, 0 assumed"
    assert rows["ROI"] == "[0:21.2,0:36,0:44] nm"


def test_relative_paths(tmp_path, monkeypatch):
    write_array(tmp_path, "zarr2", ramp((4, 4, 4)))
    monkeypatch.chdir(tmp_path)
    assert open_input("volume.zarr/raw/", **VOXELS).path == str(tmp_path / "volume.zarr" / "raw")
    assert open_input(Path("volume.zarr/raw").resolve().as_uri(), **VOXELS).shape == (4, 4, 4)
