"""Multiscale groups, and voxels of another size, in Python."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import zarr

import blockwise_predict as bp
from tests.support.networks import save_network
from tests.support.pyramids import write_pyramid

EXACT = {"device": "cpu", "precision": "float32", "progress": False}


@pytest.fixture
def model(tmp_path: Path) -> bp.TrainedModel:
    weights, architecture = save_network(tmp_path)
    return bp.open_checkpoint(weights, architecture=architecture)


@pytest.fixture
def group(tmp_path: Path) -> Path:
    data = np.random.default_rng(0).integers(0, 1 << 16, (44, 40, 38), np.uint16)
    return write_pyramid(tmp_path / "image.zarr", data)


def test_the_level_of_a_group_is_chosen_as_on_the_command_line(
    group: Path, model: bp.TrainedModel, tmp_path: Path
) -> None:
    opened = zarr.open_group(group, mode="r")
    for given in (str(group), opened):
        with pytest.raises(bp.ArrayError, match="s1: 8 x 8 x 8 nm, 22 x 20 x 19 voxels") as told:
            bp.predict(model, given, **EXACT)
        assert "in Python model_voxel_size" in str(told.value)
    expected = bp.predict(model, bp.open_array(group / "s1"), **EXACT)
    for given in (group, opened):
        found = bp.predict(model, given, model_voxel_size=(8, 8, 8), **EXACT)
        assert found.offset == expected.offset
        np.testing.assert_array_equal(found.data, expected.data)
        assert bp.open_array(given, model_voxel_size="16,16,16").path == f"{group}/s2"
    plan = bp.plan(model, opened, tmp_path / "out.zarr" / "out", model_voxel_size="8,8,8")
    assert plan.plan.input.path == f"{group}/s1"
    with pytest.raises(bp.ArrayError, match=r"no level with the voxel size .* 9 x 9 x 9 nm"):
        bp.open_array(group, model_voxel_size=(9, 9, 9))
    with pytest.raises(bp.ArrayError, match="voxel_size is for one array"):
        bp.open_array(group, model_voxel_size=(8, 8, 8), voxel_size=(4, 4, 4))


def test_a_group_in_memory_is_no_place_to_read_from(model: bp.TrainedModel) -> None:
    group = zarr.open_group(zarr.storage.MemoryStore(), mode="w")
    with pytest.raises(bp.ArrayError, match="is not on a disk"):
        bp.predict(model, group, **EXACT)
    with pytest.raises(bp.ConfigError, match="axis_names"):
        bp.predict(model, group, axis_names=["z", "y", "x"], **EXACT)


def test_voxels_of_another_size_are_resampled(group: Path, model: bp.TrainedModel) -> None:
    options = {"model_voxel_size": "10,8,20", **EXACT}
    stored = bp.predict(model, group, resample=True, **options)
    assert stored.voxel_size == (10, 8, 20)
    assert stored.shape == (18, 20, 8)
    level = bp.open_array(group / "s1")
    place = {"voxel_size": level.voxel_size, "offset": level.offset}
    data = level.read((0, 0, 0), level.shape)[0]
    held = bp.predict(model, data, resample=True, **place, **options)
    np.testing.assert_array_equal(held.data, stored.data)
    assert held.offset == stored.offset == (Fraction(1042), 2, 2)
    with pytest.raises(bp.ArrayError, match="--resample"):
        bp.predict(model, level, **options)
