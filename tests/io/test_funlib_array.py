"""Arrays in Python's hands: as funlib.persistence and zarr-python know them, at the right place."""

from __future__ import annotations

import pickle
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from funlib.geometry import Coordinate, Roi

from blockwise_predict.errors import ArrayError
from blockwise_predict.io import create_output, open_array, open_output
from blockwise_predict.io.funlib_array import MAX_DASK_CHUNKS
from tests.support.arrays import (
    FORMATS,
    OUTPUT_FORMATS,
    lengths,
    output_path,
    output_spec,
    ramp,
    write_array,
)

WHOLE = {"voxel_size": lengths(8, 4, 4), "offset": lengths(40, -8, 120)}


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("channels", [(), (3,)])
def test_an_input_of_any_format(tmp_path: Path, kind: str, channels: tuple[int, ...]) -> None:
    data = ramp((*channels, 5, 9, 14))
    opened = open_array(
        write_array(tmp_path, kind, data), voxel_size=(8, 4, 4), offset=(40, -8, 120)
    )
    array = opened.array
    assert array.roi == opened.roi == Roi((40, -8, 120), (40, 36, 56))
    assert array.voxel_size == Coordinate(8, 4, 4)
    assert array.axis_names == [*["c^"] * len(channels), "z", "y", "x"]
    assert array.units == ["nm"] * 3
    assert array.types == [*["channel"] * len(channels), *["space"] * 3]
    assert (array.shape, array.dtype) == (data.shape, data.dtype)
    assert array.channel_dims == len(channels)
    np.testing.assert_array_equal(array[:], data)
    part = array[Roi((48, 0, 128), (16, 8, 12))]
    np.testing.assert_array_equal(part, data[..., 1:3, 2:4, 2:5])


@pytest.mark.parametrize("kind", OUTPUT_FORMATS)
def test_an_output_of_any_format(tmp_path: Path, kind: str) -> None:
    path = output_path(tmp_path, kind)
    data = ramp((2, 4, 4, 8))
    create_output(output_spec(path, kind, **WHOLE)).write((0, 4, 0), data)
    output = open_output(path)
    assert output.roi == Roi((40, -8, 120), (40, 36, 56))
    assert output.channel_names == ("aff_z", "aff_y")
    array = output.array
    np.testing.assert_array_equal(array[Roi((40, 8, 120), (32, 16, 32))], data)
    np.testing.assert_array_equal(
        array.data[1, 2, 5:8:2, [3, 1]].compute(), data[1, 2, 1:4:2][:, [3, 1]]
    )
    with pytest.raises(TypeError, match="item assignment"):
        array[Roi((40, 8, 120), (32, 16, 32))] = 0


def test_a_little_of_a_huge_array(tmp_path: Path) -> None:
    """3 billion chunks of 800 teravoxels, of which two are read: quickly, and alone."""
    path = output_path(tmp_path, "zarr3")
    shape = (20_000, 200_000, 200_000)
    create_output(output_spec(path, shape=shape, chunk_shape=(64, 64, 64), **WHOLE))
    array = open_output(path).array
    assert array.data.npartitions <= MAX_DASK_CHUNKS
    found = array[Roi((40 + 8 * 8190, -8, 120), (32, 8, 8))]
    np.testing.assert_array_equal(found, np.zeros((2, 4, 2, 2), "uint8"), strict=True)


@pytest.mark.parametrize(
    ("size", "unit", "voxel_size", "offset"),
    [
        ("4.24", "pm", (4240, 4000, 4000), (42400, -8000, 120000)),
        ("1.0355", "fm", (1035500, 4000000, 4000000), (42400000, -8000000, 120000000)),
    ],
)
def test_fractions_of_a_nanometre_are_kept_in_a_smaller_unit(
    tmp_path: Path, size: str, unit: str, voxel_size: tuple[int, ...], offset: tuple[int, ...]
) -> None:
    path = output_path(tmp_path, "zarr3")
    create_output(output_spec(path, voxel_size=lengths(size, 4, 4)))
    array = open_output(path).array
    assert array.units == [unit] * 3
    assert array.voxel_size == Coordinate(voxel_size)
    assert array.roi.begin == Coordinate(offset)
    assert open_output(path).voxel_size == lengths(size, 4, 4)


def test_lengths_that_are_whole_in_no_unit(tmp_path: Path) -> None:
    opened = open_array(
        write_array(tmp_path, "zarr3", ramp((4, 4, 4))), voxel_size=[Fraction(10, 3), 4, 4]
    )
    with pytest.raises(ArrayError, match=r"10/3 x 4 x 4 nm .* whole in none of nm, pm, fm"):
        _ = opened.array


def test_a_roi_of_whole_nanometres_or_none(tmp_path: Path) -> None:
    path = write_array(tmp_path, "zarr3", ramp((4, 5, 6)))
    opened = open_array(path, voxel_size="4.24,4,4", offset=("0.5", 0, 8))
    assert opened.voxel_size == lengths("4.24", 4, 4)
    assert opened.bounds == (lengths("0.5", 0, 8), lengths("17.46", 20, 32))
    with pytest.raises(ArrayError, match=r"spans \[0.5:17.46,0:20,8:32\] nm.*`bounds`"):
        _ = opened.roi
    # Whole corners, of voxels that are not.
    assert open_array(path, voxel_size=(0.5, 0.2, 0.5)).roi == Roi((0, 0, 0), (2, 1, 3))


@pytest.mark.parametrize("lengths_given", ["8;4;4", (8, "wide", 4), 8, "nan,1,1"])
def test_voxel_sizes_that_are_none(tmp_path: Path, lengths_given: object) -> None:
    path = write_array(tmp_path, "zarr3", ramp((4, 5, 6)))
    with pytest.raises(ArrayError, match=r"voxel_size=.*one length in nm for each spatial axis"):
        open_array(path, voxel_size=lengths_given)  # type: ignore[arg-type]


def test_errors_name_the_argument_and_not_the_option(tmp_path: Path) -> None:
    path = write_array(tmp_path, "zarr3", ramp((4, 5, 6)))
    with pytest.raises(ArrayError, match=r"Pass voxel_size \(nm") as refused:
        open_array(path)
    assert "--" not in str(refused.value)


def test_a_repr_says_what_was_understood(tmp_path: Path) -> None:
    path = output_path(tmp_path, "zarr3")
    create_output(output_spec(path))
    text = repr(open_output(path))
    assert text.startswith("<OutputArray>\n")
    for line in (
        f"path         {path}",
        "format       zarr 3",
        "shape        5 x 9 x 14 voxels (z, y, x)",
        "channels     2 (aff_z, aff_y)",
        "dtype        uint8",
        "chunks       2 x 4 x 4 x 8",
        "voxel size   4.24 x 4 x 4 nm, from attribute 'voxel_size' of group/prediction/zarr.json",
        "ROI          [42.4:63.6,-8:28,120:176] nm",
    ):
        assert f"  {line}\n" in f"{text}\n"
    assert repr(open_array(path)).startswith(f"<InputArray>\n  path         {path}\n")


@pytest.mark.parametrize("kind", ["zarr2", "zarr3"])
@pytest.mark.parametrize("place", ["disk", "s3"])
def test_zarr_python_opens_an_output(
    tmp_path: Path, request: pytest.FixtureRequest, kind: str, place: str
) -> None:
    folder = request.getfixturevalue("bucket") if place == "s3" else str(tmp_path)
    path = f"{folder}/{kind}.zarr/group/prediction"
    data = ramp((2, 4, 4, 8))
    create_output(output_spec(path, kind)).write((0, 4, 0), data)
    array = open_output(path).zarr
    np.testing.assert_array_equal(array[:, :4, 4:8, :8], data)
    assert not array[:, :4, :4].any()
    assert array.attrs["channel_names"] == ["aff_z", "aff_y"]
    assert array.nchunks_initialized == 1
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(array))[:, :4, 4:8, :8], data)


def test_zarr_python_knows_no_n5(tmp_path: Path) -> None:
    path = output_path(tmp_path, "n5")
    create_output(output_spec(path, "n5"))
    with pytest.raises(ArrayError, match=r"is N5, which zarr-python 3 cannot open. Use `array`"):
        _ = open_output(path).zarr
