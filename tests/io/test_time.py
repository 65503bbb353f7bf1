"""Where the frames of an array are, by each convention of metadata and by the user."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorstore as ts
import xarray

from blockwise_predict.errors import ArrayError
from blockwise_predict.io import create_output, open_in_memory, open_input, open_output
from tests.support.arrays import lengths, output_path, output_spec, ramp, write_array
from tests.support.movies import write_movie

SHAPE = (3, 6, 5, 7)
PLACE = (lengths("0.5", 8, 4, 4), lengths(10, 40, 0, 0), "second")


def placed(path: str | Path, **given: object):
    placement = open_input(path, **given).placement  # type: ignore[arg-type]
    return placement.voxel_size, placement.offset, placement.time_unit


@pytest.mark.parametrize("kind", ["zarr2", "zarr3", "n5"])
@pytest.mark.parametrize("axes", ["tzyx", "tczyx", "ctzyx", "zyxt"])
def test_frames_are_found_wherever_their_axis_is(kind: str, axes: str, tmp_path: Path) -> None:
    data = ramp(SHAPE)
    volume = data[None] if "c" in axes else data
    order = ["ctzyx".index(axis) - ("c" not in axes) for axis in axes]
    array = open_input(write_movie(tmp_path, kind, volume.transpose(order), axes))
    assert (array.shape, array.channels) == (SHAPE, 1 if "c" in axes else None)
    assert array.placement.axis_names == ("t", "z", "y", "x")
    assert placed(array.path) == PLACE
    np.testing.assert_array_equal(array.read((1, 2, 0, 0), (3, 6, 5, 7))[0], data[1:, 2:])


def test_a_single_frame_has_no_part_in_the_volume(tmp_path: Path) -> None:
    array = open_input(write_movie(tmp_path, "zarr3", ramp((1, 1, 6, 5, 7)), "tczyx"))
    assert array.shape == (6, 5, 7)
    assert array.placement.time_unit is None


def test_what_the_user_gives_is_for_space_or_for_time_too(tmp_path: Path) -> None:
    path = write_movie(tmp_path, "zarr2", ramp(SHAPE), "tzyx")
    assert placed(path, voxel_size=lengths(9, 5, 5)) == (lengths("0.5", 9, 5, 5), *PLACE[1:])
    given = {"voxel_size": lengths(2, 9, 5, 5), "offset": lengths(3, 1, 1, 1)}
    assert placed(path, **given) == (*given.values(), "second")
    with pytest.raises(ArrayError, match="has 2 values"):
        placed(path, voxel_size=lengths(9, 5))


@pytest.mark.parametrize(
    ("unit", "name"), [("ms", "millisecond"), ("min", "minute"), ("fortnight", "fortnight")]
)
def test_units_have_their_names_of_ome_ngff(unit: str, name: str, tmp_path: Path) -> None:
    assert placed(write_movie(tmp_path, "zarr3", ramp(SHAPE), "tzyx", unit))[2] == name


def test_names_of_dimensions_and_their_units(tmp_path: Path) -> None:
    attributes = {
        "_ARRAY_DIMENSIONS": ["t", "c", "z", "y", "x"],
        "dimension_units": ["20 ms", None, "8 nm", "4 nm", "4 nm"],
    }
    path = write_array(tmp_path, "zarr2", ramp((3, 2, 6, 5, 7)), attributes)
    assert placed(path) == (lengths(20, 8, 4, 4), lengths(0, 0, 0, 0), "millisecond")


@pytest.mark.parametrize("voxel_size", [[2, 8, 4, 4], [2, 1, 8, 4, 4], [8, 4, 4]])
def test_funlib_attributes(voxel_size: list[int], tmp_path: Path) -> None:
    units = {3: ["nm"] * 3, 4: ["s", "nm", "nm", "nm"], 5: ["s", "", "nm", "nm", "nm"]}
    attributes = {
        "voxel_size": voxel_size,
        "axis_names": ["t", "c^", "z", "y", "x"],
        "units": units[len(voxel_size)],
    }
    path = write_array(tmp_path, "zarr2", ramp((3, 2, 6, 5, 7)), attributes)
    placement = open_input(path).placement
    assert placement.voxel_size[1:] == lengths(8, 4, 4)
    if len(voxel_size) == 3:
        assert (placement.voxel_size[0], placement.time_unit) == (1, "")
        assert "the interval from one frame to the next is not known: 1" in placement.notes[-1]
    else:
        assert (placement.voxel_size[0], placement.time_unit) == (2, "second")


def test_an_interval_that_is_not_positive_is_refused(tmp_path: Path) -> None:
    attributes = {"voxel_size": [0, 8, 4, 4], "axis_names": ["t", "z", "y", "x"]}
    path = write_array(tmp_path, "zarr2", ramp(SHAPE), attributes)
    with pytest.raises(ArrayError, match=r"frames 0 apart .* interval must be positive"):
        open_input(path)


def test_coordinates_of_xarray() -> None:
    time = ("time", [3.0, 3.2, 3.4], {"units": "seconds"})
    movie = xarray.DataArray(ramp(SHAPE), dims=["time", "z", "y", "x"], coords={"time": time})
    array = open_in_memory(movie)
    assert array.voxel_size == lengths("0.2", 1, 1, 1)
    assert array.offset == lengths(3, 0, 0, 0)
    assert array.placement.time_unit == "second"
    np.testing.assert_array_equal(array.read((1, 0, 0, 0), (2, 6, 5, 7))[0, 0], movie.values[1])


def test_arrays_of_other_libraries(tmp_path: Path) -> None:
    stored = open_input(write_movie(tmp_path, "zarr2", ramp(SHAPE), "tzyx"))
    # Its times are in milliseconds, which funlib's whole numbers can hold.
    array = open_in_memory(stored.array)
    assert array.placement.time_unit == "millisecond"
    assert array.voxel_size == lengths(500, 8, 4, 4)
    assert array.offset == lengths(10000, 40, 0, 0)
    np.testing.assert_array_equal(array.read((0,) * 4, SHAPE), stored.read((0,) * 4, SHAPE))
    spec = {
        "driver": "array",
        "array": ramp(SHAPE).tolist(),
        "dtype": "uint8",
        "schema": {"dimension_units": ["20 s", "8 nm", "4 nm", "4 nm"]},
        "transform": {"input_labels": ["t", "z", "y", "x"], "input_shape": SHAPE},
    }
    array = open_in_memory(ts.open(spec).result())
    assert (array.voxel_size, array.placement.time_unit) == (lengths(20, 8, 4, 4), "second")
    array = open_in_memory(ramp((2, 3, 5, 7)), axis_names=["c^", "t", "y", "x"])
    assert (array.shape, array.channels, array.placement.time_unit) == ((3, 5, 7), 2, "")


@pytest.mark.parametrize("kind", ["zarr2", "zarr3", "n5"])
def test_outputs_are_written_and_read_by_whole_chunks(kind: str, tmp_path: Path) -> None:
    spec = output_spec(
        output_path(tmp_path, kind),
        kind,
        shape=(2, 5, 9, 14),
        chunk_shape=(1, 4, 4, 8),
        voxel_size=lengths("0.5", "4.24", 4, 4),
        input_voxel_size=lengths("0.5", "4.24", 4, 4),
        offset=lengths("1.5", "42.4", -8, 120),
        axis_names=("t", "z", "y", "x"),
        time_unit="second",
    )
    data = ramp((2, *spec.shape))
    output = create_output(spec)
    output.write((0, 0, 0, 0), data[:, :1])
    assert output.is_stored((0, 0, 0, 0), (1, 5, 9, 14))
    assert not output.is_stored((1, 0, 0, 0), (2, 5, 9, 14))
    output.write((1, 4, 0, 8), data[:, 1:, 4:, :, 8:])
    with pytest.raises(ValueError, match="whole chunks"):
        output.write((1, 2, 0, 0), data[:, 1:, 2:])
    for opened in (open_output(spec.path), open_input(spec.path)):
        read = opened.read((0, 0, 0, 0), spec.shape)
        np.testing.assert_array_equal(read[:, 0], data[:, 0])
        np.testing.assert_array_equal(read[:, 1, 4:, :, 8:], data[:, 1, 4:, :, 8:])
        assert opened.voxel_size == spec.voxel_size
        assert opened.offset == spec.offset
        assert opened.placement.time_unit == "second"
        assert opened.channel_names == spec.channel_names
