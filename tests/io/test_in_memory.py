"""Arrays in Python's hands are read as those in storage are, whoever's they are."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import tensorstore as ts
import xarray as xr
import zarr
from funlib.geometry import Roi
from funlib.persistence import Array
from zarr.storage import MemoryStore

from blockwise_predict.engine.border import read_padded
from blockwise_predict.errors import ArrayError
from blockwise_predict.io import CheckedInput, InputArray, missing_sample, sample_digests
from blockwise_predict.io.in_memory import open_in_memory
from tests.support.arrays import lengths, ramp, write_array

SHAPE = (5, 9, 14)
NAMES = ("c^", "z", "y", "x")


def in_zarr(data: np.ndarray, **options: Any) -> zarr.Array:
    array = zarr.create_array(MemoryStore(), shape=data.shape, dtype=data.dtype, **options)
    array[...] = data
    return array


def in_tensorstore(data: np.ndarray) -> Any:
    metadata = {"shape": data.shape, "data_type": data.dtype.name}
    spec = {"driver": "zarr3", "kvstore": {"driver": "memory"}, "metadata": metadata}
    store = ts.open(spec, create=True).result()
    store[...] = data
    return store


KINDS: dict[str, Callable[[np.ndarray], Any]] = {
    "numpy": lambda data: data,
    "dask": lambda data: da.from_array(data, chunks=(4,) * data.ndim),
    "zarr-python": in_zarr,
    "tensorstore": in_tensorstore,
    "funlib.persistence": lambda data: Array(
        data, axis_names=NAMES[-data.ndim :], units=["nm"] * 3, voxel_size=(1, 1, 1)
    ),
    "xarray": lambda data: xr.DataArray(data, dims=[name[0] for name in NAMES[-data.ndim :]]),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [(), (3,)])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "bool"])
def test_any_kind_is_read_alike(kind: str, channels: tuple[int, ...], dtype: str) -> None:
    data = ramp((*channels, *SHAPE), "uint8").astype(dtype)
    array = open_in_memory(
        KINDS[kind](data), voxel_size=("4.24", 4, 4), axis_names=NAMES[-data.ndim :]
    )
    read_as = "uint8" if dtype == "bool" else dtype
    expected = data.reshape(-1, *SHAPE).astype(read_as)
    np.testing.assert_array_equal(array.read((0, 0, 0), SHAPE), expected, strict=True)
    part = array.read((1, 2, 3), (2, 9, 7))
    np.testing.assert_array_equal(part, expected[:, 1:2, 2:9, 3:7], strict=True)
    assert part.flags.c_contiguous
    assert (array.format, array.shape, array.dtype) == (kind, SHAPE, np.dtype(read_as))
    assert array.channels == (3 if channels else None)
    assert array.placement.voxel_size == lengths("4.24", 4, 4)
    with pytest.raises(ValueError, match="are not within"):
        array.read((0, 0, 0), (6, 9, 14))


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_are_read_from_any_kind(kind: str) -> None:
    """By what reads blocks, samples the volume and takes its fingerprint."""
    data = ramp(SHAPE)
    array = open_in_memory(KINDS[kind](data), voxel_size=(8, 4, 4))
    checked = CheckedInput(array, "fail")
    np.testing.assert_array_equal(checked.read((0, 0, 0), SHAPE)[0], data)
    padded = read_padded(checked, Roi((-2, 3, 10), (4, 4, 8)), "reflect")
    expected = np.pad(data, ((2, 0), (0, 0), (0, 4)), mode="reflect")[:4, 3:7, 10:18]
    np.testing.assert_array_equal(padded[0], expected)
    assert missing_sample(array, (0, 0, 0), SHAPE)[0] == 0
    assert sample_digests(array)
    assert array.current_sha256() == array.metadata_sha256


@pytest.mark.parametrize("kind", ["numpy", "dask", "tensorstore", "xarray"])
def test_without_a_place_voxels_are_counted(kind: str) -> None:
    array = open_in_memory(KINDS[kind](ramp(SHAPE)))
    assert array.placement.voxel_size == lengths(1, 1, 1)
    assert array.placement.offset == lengths(0, 0, 0)
    assert array.placement.voxel_size_source == "none found, 1 nm assumed"


def test_a_zarr_array_must_say_its_voxel_size() -> None:
    data = ramp(SHAPE)
    with pytest.raises(ArrayError, match=r"does not say its voxel size.*Pass voxel_size"):
        open_in_memory(in_zarr(data))
    placed = in_zarr(data, attributes={"voxel_size": [4.24, 4, 4], "offset": [8, 0, 4]})
    array = open_in_memory(placed)
    assert array.placement.voxel_size == lengths("4.24", 4, 4)
    assert array.placement.offset == lengths(8, 0, 4)


@pytest.mark.parametrize("kind", ["zarr2", "zarr3"])
def test_a_zarr_array_on_a_disk_is_opened_by_its_path(tmp_path: Path, kind: str) -> None:
    path = write_array(tmp_path, kind, ramp(SHAPE), {"voxel_size": [8, 4, 4]})
    array = open_in_memory(zarr.open_array(path, mode="r"))
    assert isinstance(array, InputArray)
    assert array.path == str(path)
    assert array.placement.voxel_size == lengths(8, 4, 4)


def test_missing_chunks_of_a_tensorstore_are_seen() -> None:
    metadata = {
        "shape": [8, 8, 8],
        "data_type": "uint8",
        "fill_value": 7,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [4, 8, 8]}},
    }
    spec = {"driver": "zarr3", "kvstore": {"driver": "memory"}, "metadata": metadata}
    store = ts.open(spec, create=True).result()
    store[:4] = 1
    array = open_in_memory(store)
    assert array.chunk_shape == (4, 8, 8)
    assert array.fill_value == 7
    assert array.is_stored((0, 0, 0), (4, 8, 8))
    assert not array.is_stored((0, 0, 0), (5, 8, 8))


def test_a_tensorstore_says_its_axes_and_units() -> None:
    data = ramp((14, 9, 5, 2))
    spec = {
        "driver": "array",
        "array": data.tolist(),
        "dtype": "uint8",
        "schema": {"dimension_units": ["4 nm", "4 nm", "0.01 um", None]},
        "transform": {"input_labels": ["y", "x", "z", "c"], "input_shape": data.shape},
    }
    array = open_in_memory(ts.open(spec).result().translate_to[10, 0, -3, 0])
    assert array.placement.axis_names == ("y", "x", "z")
    assert array.placement.voxel_size == lengths(4, 4, 10)
    assert array.channels == 2
    np.testing.assert_array_equal(
        array.read((0, 0, 0), array.shape), np.moveaxis(data, -1, 0), strict=True
    )


def test_a_funlib_array_keeps_its_place() -> None:
    data = ramp((14, 9, 5, 2))
    given = Array(
        data,
        offset=(2, -8, 12),
        voxel_size=(1, 4, 4),
        axis_names=["z", "y", "x", "c^"],
        units=["um", "nm", "nm"],
    )
    array = open_in_memory(given)
    assert array.placement.voxel_size == lengths(1000, 4, 4)
    assert array.placement.offset == lengths(2000, -8, 12)
    np.testing.assert_array_equal(
        array.read((0, 0, 0), array.shape), np.moveaxis(data, -1, 0), strict=True
    )
    assert array.array.roi == Roi((2000, -8, 12), (14000, 36, 20))


def test_what_is_sliced_of_a_funlib_array_counts() -> None:
    given = Array(ramp((2, *SHAPE)), voxel_size=(8, 4, 4), axis_names=NAMES, units=["nm"] * 3)
    given.lazy_op(np.s_[1])
    given.lazy_op(Roi((8, 4, 8), (16, 8, 40)))
    array = open_in_memory(given)
    assert (array.shape, array.channels) == ((2, 2, 10), None)
    assert array.placement.offset == lengths(8, 4, 8)
    expected = ramp((2, *SHAPE))[1:, 1:3, 1:3, 2:12]
    np.testing.assert_array_equal(array.read((0, 0, 0), (2, 2, 10)), expected)


def test_xarray_coordinates_give_the_place() -> None:
    coordinates = {
        "z": xr.Variable("z", 42.4 + 4.24 * np.arange(5), {"units": "nm"}),
        "y": xr.Variable("y", np.arange(9) * 0.004 - 0.008, {"units": "um"}),
        "x": xr.Variable("x", 10 / 3 * np.arange(14), {"units": "nm"}),
    }
    data = ramp((1, *SHAPE, 2))
    array = open_in_memory(xr.DataArray(data, coordinates, ("t", "z", "y", "x", "c"), name="raw"))
    assert array.path == "<xarray.DataArray raw>"
    assert array.placement.voxel_size == (*lengths("4.24", 4), Fraction(10, 3))
    assert array.placement.offset == lengths("42.4", -8, 0)
    np.testing.assert_array_equal(array.read((0, 0, 0), SHAPE), np.moveaxis(data[0], -1, 0))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0, 4, 9, 12], "'y' of the DataArray is not evenly spaced"),
        ([12, 8, 4, 0], "does not ascend"),
        (None, "has coordinates for z, x and none for y"),
    ],
)
def test_xarray_coordinates_that_place_nothing(values: list[int] | None, message: str) -> None:
    coordinates = {"z": range(2), "y": values, "x": range(5)}
    given = {name: list(own) for name, own in coordinates.items() if own is not None}
    data = xr.DataArray(ramp((2, 4, 5)), given, ("z", "y", "x"))
    with pytest.raises(ArrayError, match=message):
        open_in_memory(data)
    told = open_in_memory(data, voxel_size=(1, 2, 3), offset=(0, 0, 0))
    assert told.placement.voxel_size == lengths(1, 2, 3)


def test_nothing_is_read_before_it_is_asked_for() -> None:
    def fail(_: np.ndarray) -> np.ndarray:
        raise AssertionError

    lazy = da.zeros((1 << 20,) * 3, chunks=64, dtype="uint8").map_blocks(fail, dtype="uint8")
    array = open_in_memory(lazy, voxel_size=(1, 1, 1))
    assert array.shape == (1 << 20,) * 3


def test_what_is_read_from_numpy_is_a_copy() -> None:
    data = ramp(SHAPE)
    open_in_memory(data).read((0, 0, 0), SHAPE)[...] = 0
    np.testing.assert_array_equal(data, ramp(SHAPE))


def test_big_endian_numbers_are_read_as_this_machine_has_them() -> None:
    data = ramp(SHAPE).astype(">u2")
    found = open_in_memory(data).read((0, 0, 0), SHAPE)
    np.testing.assert_array_equal(found, data[None].astype("uint16"), strict=True)
    assert found.dtype.isnative


def test_channels_of_an_array_without_names_are_its_shortest_axis() -> None:
    array = open_in_memory(ramp((5, 9, 14, 2)))
    assert (array.shape, array.channels) == (SHAPE, 2)
    assert "taken as channels" in array.placement.notes[0]
    with pytest.raises(ArrayError, match=r"which axis is the channel\? Name them by axis_names"):
        open_in_memory(ramp((5, 5, 9, 14)))
    with pytest.raises(ArrayError, match=r"axis_names=.*name each of the 3 axes"):
        open_in_memory(ramp(SHAPE), axis_names=("y", "x"))


def test_what_cannot_be_read() -> None:
    with pytest.raises(
        ArrayError, match=r"builtins.list is not an array.*numpy.ndarray, zarr.Array"
    ):
        open_in_memory([[1, 2], [3, 4]])
    with pytest.raises(ArrayError, match="holds complex64"):
        open_in_memory(np.zeros(SHAPE, "complex64"))
    with pytest.raises(ArrayError, match="is empty"):
        open_in_memory(np.zeros((0, 4, 4)))
    with pytest.raises(ArrayError, match="the axes z, y, x; voxel_size has 2 values"):
        open_in_memory(ramp(SHAPE), voxel_size=(4, 4), axis_names=("z", "y", "x"))


def test_a_repr_says_what_was_understood() -> None:
    text = repr(open_in_memory(ramp(SHAPE), voxel_size=(8, 4, 4)))
    assert text.startswith("<MemoryArray>\n  path         <numpy.ndarray>\n")
    assert "voxel size   8 x 4 x 4 nm, from voxel_size\n" in text


def test_libraries_are_not_imported_before_they_are_needed() -> None:
    """Workers start in seconds; these would cost them several."""
    code = (
        "import sys, blockwise_predict.io;"
        "print([name for name in ('zarr', 'dask', 'xarray', 'funlib.persistence') "
        "if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "[]\n", result.stderr
