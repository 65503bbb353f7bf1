"""Multiscale groups: the level that is read is the one with the network's voxels."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from blockwise_predict.errors import ArrayError
from blockwise_predict.io import (
    TrainedSize,
    describe_levels,
    open_array,
    open_input,
    open_source,
)
from blockwise_predict.io.kvstore import open_store
from tests.support.arrays import lengths, ramp, write_json
from tests.support.pyramids import multiscale, scaled, write_group, write_pyramid
from tests.support.webserver import files_only

SHAPE = (16, 20, 24)


def trained_at(*size: object) -> TrainedSize:
    return TrainedSize(lengths(*size), "a file")


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_the_level_with_the_networks_voxels_is_read(tmp_path: Path, version: str) -> None:
    group = write_pyramid(tmp_path / "image.zarr", ramp(SHAPE), version)
    array = open_source(group, trained_at(8, 8, 8))
    assert array.path == f"{group}/s1"
    assert array.placement.voxel_size == lengths(8, 8, 8)
    # The level's translation, and then the group's.
    assert array.placement.offset == lengths(1042, 2, 2)
    assert array.level is not None
    assert (array.level.group, array.level.path) == (str(group), "s1")
    assert array.placement.notes == (
        f"level s1 of {group} is read: the network was trained at 8 x 8 x 8 nm (a file)",
    )


def test_a_group_scale_multiplies_the_levels(tmp_path: Path) -> None:
    levels = {"0": scaled((1, 2, 2)), "1": scaled((1, 4, 4), (0, 1, 1))}
    above = [
        {"type": "scale", "scale": [10, 2, 2]},
        {"type": "translation", "translation": [0.5, 0, 0.001]},
    ]
    entry = multiscale(levels, coordinateTransformations=above)
    arrays = {"0": ramp(SHAPE), "1": ramp((16, 10, 12))}
    group = write_group(tmp_path / "image.zarr", arrays, [entry], "0.4")
    array = open_source(group, trained_at(10, 8, 8))
    assert array.path == f"{group}/1"
    assert array.placement.offset == lengths(500, 2, 3)


@pytest.mark.parametrize(
    ("size", "level"),
    [(("8.0000001", 8, 8), "s1"), (("7.995", 8, 8), "s1"), ((8, 8), "s1"), ((16, 16, 16), "s2")],
)
def test_rounded_sizes_and_those_of_slices(tmp_path: Path, size: tuple, level: str) -> None:
    group = write_pyramid(tmp_path / "image.zarr", ramp(SHAPE))
    assert open_source(group, trained_at(*size)).path == f"{group}/{level}"


def test_no_level_fits(tmp_path: Path) -> None:
    group = write_pyramid(tmp_path / "image.zarr", ramp(SHAPE))
    with pytest.raises(ArrayError) as told:
        open_source(group, trained_at("7.98", 8, 8))
    text = str(told.value)
    assert "trained at, 7.98 x 8 x 8 nm (a file)" in text
    assert "\n  s1: 8 x 8 x 8 nm, 8 x 10 x 12 voxels\n" in text
    assert f"--input {group}/s0, with --allow-voxel-size-mismatch" in text


def test_the_networks_voxels_are_not_known(tmp_path: Path) -> None:
    group = write_pyramid(tmp_path / "image.zarr", ramp(SHAPE))
    with pytest.raises(ArrayError) as told:
        open_source(group, None)
    text = str(told.value)
    assert "\n  s0: 4 x 4 x 4 nm, 16 x 20 x 24 voxels\n  s1: 8 x 8 x 8 nm" in text
    assert "--model-voxel-size (in Python model_voxel_size), or name the level" in text


def test_an_only_level_needs_no_voxel_size(tmp_path: Path) -> None:
    entry = multiscale({"s0": scaled((4, 4, 4))})
    group = write_group(tmp_path / "image.zarr", {"s0": ramp(SHAPE)}, [entry], "0.4")
    assert open_source(group, None).level is not None
    # Whether its voxels fit is checked for every input.
    assert open_source(group, trained_at(8, 8, 8)).path == f"{group}/s0"


def test_a_path_to_a_level_and_an_offset(tmp_path: Path) -> None:
    group = write_pyramid(tmp_path / "image.zarr", ramp(SHAPE))
    array = open_source(group / "s2", trained_at(8, 8, 8))
    assert (array.path, array.level) == (f"{group}/s2", None)
    moved = open_source(group, trained_at(4, 4, 4), offset=(Fraction(1), Fraction(2), Fraction(3)))
    assert moved.placement.offset == lengths(1, 2, 3)
    with pytest.raises(ArrayError, match=f"--voxel-size is for one array.*{group}/s0"):
        open_source(group, trained_at(4, 4, 4), voxel_size=lengths(4, 4, 4))
    with pytest.raises(ArrayError, match="is a group, not an array"):
        open_input(group)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_server_that_lists_nothing(tmp_path: Path, version: str) -> None:
    data = ramp(SHAPE)
    write_pyramid(tmp_path / "set" / "image.zarr", data, version)
    with files_only(tmp_path) as address:
        # Without .zarr in the name, groups are searched for up to the server's root.
        (tmp_path / "set" / "image.zarr").rename(tmp_path / "set" / "image")
        array = open_source(f"{address}/set/image", trained_at(4, 4, 4))
        assert array.path == f"{address}/set/image/s0"
        np.testing.assert_array_equal(array.read((0, 0, 0), SHAPE)[0], data)
        assert open_array(f"{address}/set/image/s2").placement.voxel_size == lengths(16, 16, 16)
        with pytest.raises(ArrayError, match=r"typo: PERMISSION_DENIED"):
            open_source(f"{address}/set/image/typo", None)


def test_a_group_on_s3(tmp_path: Path, bucket: str) -> None:
    group = write_pyramid(tmp_path / "image.zarr", ramp(SHAPE))
    store = open_store(f"{bucket}/image.zarr")
    for file in group.rglob("*"):
        if file.is_file():
            store.write(str(file.relative_to(group)), file.read_bytes()).result()
    array = open_source(f"{bucket}/image.zarr", trained_at(8, 8, 8))
    assert array.path == f"{bucket}/image.zarr/s1"
    assert array.placement.offset == lengths(1042, 2, 2)


def test_levels_that_are_missing_or_lead_elsewhere(tmp_path: Path) -> None:
    levels = {path: scaled((4, 4, 4)) for path in ("../other", "/etc", "gone", "./s0")}
    group = write_group(tmp_path / "image.zarr", {"s0": ramp(SHAPE)}, [multiscale(levels)], "0.4")
    assert open_source(group, trained_at(4, 4, 4)).path == f"{group}/s0"
    rows = dict(describe_levels(group) or [])
    assert rows.keys() == {"path", "level gone", "level s0"}
    assert "there is no zarr, N5 or precomputed array" in rows["level gone"]


def test_several_images_in_a_group(tmp_path: Path) -> None:
    arrays = {"a": ramp(SHAPE), "b": ramp(SHAPE)}
    first, second = (multiscale({name: scaled((4, 4, 4))}, name=f"the {name}") for name in arrays)
    group = write_group(tmp_path / "image.zarr", arrays, [first, second], "0.5")
    with pytest.raises(ArrayError, match=r"(?s)2 multiscale images.*'the b': b.*--input .*/a\."):
        open_source(group, trained_at(4, 4, 4))
    # The same arrays twice are not ambiguous.
    write_group(group, {"a": ramp(SHAPE)}, [first, {**first, "name": "again"}], "0.5")
    assert open_source(group, trained_at(4, 4, 4)).path == f"{group}/a"


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"labels": ["cells", "nuclei"]}, "holds the label images .*Name one, .*/cells"),
        ({"bioformats2raw.layout": 3}, "holds one or more images.*/0"),
        ({}, "is a group, not an array"),
        ({"multiscales": "s0"}, "is a group, not an array"),
        (
            {"multiscales": [{"datasets": {"path": "s0"}}, {"datasets": 5}, 3]},
            "is a group, not an array",
        ),
    ],
)
def test_groups_that_are_no_image(tmp_path: Path, attributes: dict, message: str) -> None:
    group = write_group(tmp_path / "image.zarr", {"s0": ramp(SHAPE)}, [], "0.4")
    (group / ".zattrs").unlink()
    write_json(group / ".zattrs", attributes)
    with pytest.raises(ArrayError, match=message):
        open_source(group, trained_at(4, 4, 4))
