"""What is planned with --resample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from blockwise_predict.config.model import load_config
from blockwise_predict.errors import ArrayError
from blockwise_predict.geometry.resampling import FILTER
from blockwise_predict.io import InputArray, ResampledArray, open_in_memory, stored_array
from blockwise_predict.plan.costs import estimate_all
from blockwise_predict.plan.make import Planned, make_plan
from blockwise_predict.plan.model import Plan
from blockwise_predict.plan.numbers import sampled_chunks
from blockwise_predict.plan.planned_input import open_planned
from tests.support.arrays import ramp
from tests.support.networks import save_network
from tests.support.pyramids import write_pyramid
from tests.support.runs import tiny_config, write_volume

TINY_2D = {"input_shape": [20, 20], "downsample_factors": [[2, 2]]}


def planned(folder: Path, size: str | None, **options: object) -> Planned:
    """The plan of a run over voxels of 10 nm, by a network that was trained at a size."""
    config = tiny_config(folder, (32, 36, 40), resample=True, model_voxel_size=size, **options)
    return make_plan(config)


def test_the_plan_records_what_is_resampled_and_how(tmp_path: Path) -> None:
    made = planned(tmp_path, "5,10,20", normalize="percentiles:0,100")
    plan = Plan.model_validate_json(made.plan.model_dump_json())
    source = plan.input
    assert (source.shape, source.chunk_shape, source.dtype) == (
        (64, 36, 20),
        (32, 16, 8),
        "float32",
    )
    assert source.voxel_size == ("5", "10", "20")
    stored = source.resampled_from
    assert stored is not None
    assert (stored.shape, stored.chunk_shape, stored.dtype) == ((32, 36, 40), (16, 16, 16), "uint8")
    assert (stored.voxel_size, stored.filter) == (("10", "10", "10"), FILTER)
    assert plan.identity()["resampled from"] == stored.model_dump(mode="json")
    assert plan.warnings == ()
    assert plan.output.shape == (64, 36, 20)
    # The sample is of what is stored, so its extremes are those of uint8.
    assert plan.normalize == "range:0,255"
    grid = sampled_chunks(made.opened, plan.output.roi)
    assert grid.array is stored_array(made.opened.array)
    assert grid.end == (32, 36, 40)
    # In memory a voxel is a float32, with one stored byte for it.
    assert made.opened.raw_bytes == 5
    assert plan.num_blocks == 1
    assert estimate_all(plan, made.opened.models, None).bytes_in == 2 * 3 * 3 * 16**3
    array = open_planned(plan)
    assert isinstance(array, ResampledArray)
    assert (array.shape, array.placement.grid) == (source.shape, source.grid)


@pytest.mark.parametrize(
    "change", [{"voxel_size": ["10"]}, {"voxel_size": ["10", "0", "4"]}, {"chunk_shape": [0, 1, 1]}]
)
def test_a_damaged_record_is_no_plan(tmp_path: Path, change: dict[str, object]) -> None:
    record = planned(tmp_path, "5,10,20").plan.model_dump(mode="json")
    record["input"]["resampled_from"] |= change
    with pytest.raises(ValidationError):
        Plan.model_validate(record)


def test_nothing_to_resample(tmp_path: Path) -> None:
    made = planned(tmp_path, "10,10,10.001")
    assert isinstance(made.opened.array, InputArray)
    assert made.plan.input.resampled_from is None
    assert f"--resample has no effect: {made.opened.array.path} has the voxel size" in " ".join(
        made.plan.notes
    )
    assert made.plan.identity()["resampled from"] is None


def test_what_is_not_known_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ArrayError, match=r"--resample: the checkpoint does not .* size"):
        planned(tmp_path, None)
    folder = tmp_path / "other"
    folder.mkdir()
    config = tiny_config(folder, (20, 20, 20), resample=True, model_voxel_size="8,8,8")
    nowhere = open_in_memory(np.zeros((20, 20, 20), np.uint8))
    with pytest.raises(ArrayError, match="states no voxel size"):
        make_plan(config, array=nowhere)


@pytest.mark.parametrize(
    ("size", "level", "shape"),
    [
        ("8,8,8", "s1", None),
        ("10,10,10", "s1", (16, 16, 16)),
        ("8,20,20", "s1", (20, 8, 8)),
        ("40,40,40", "s2", (4, 4, 4)),
        ("2,8,8", "s0", (80, 20, 20)),
    ],
)
def test_the_level_that_is_resampled(
    tmp_path: Path, size: str, level: str, shape: tuple[int, ...] | None
) -> None:
    group = write_pyramid(tmp_path / "image.zarr", ramp((40, 40, 40)))
    options = {"input": str(group), "border": "constant"}
    made = planned(tmp_path, size, **options)
    assert made.plan.input.level is not None
    assert made.plan.input.level.path == level
    if shape is None:
        assert made.plan.input.resampled_from is None
        return
    assert made.plan.input.shape == shape
    assert "none has the network's voxel size" in made.plan.input.level.reason
    # A run that is resumed stays at its level.
    again = make_plan(made.plan.config, made.plan).plan
    assert again.identity() == made.plan.identity()
    with pytest.raises(ArrayError, match="With --resample, voxels of another level"):
        make_plan(made.plan.config.model_copy(update={"resample": False}))


def test_slices_of_a_volume_stay_where_they_are(tmp_path: Path) -> None:
    weights, architecture = save_network(tmp_path, **TINY_2D)
    volume = write_volume(tmp_path / "raw.zarr", ramp((20, 24, 24)), (30, 8, 4))
    options = {"checkpoint": str(weights), "architecture": str(architecture), "device": "cpu"}
    options |= {"input": volume, "output": f"{tmp_path}/out.zarr/out", "model_voxel_size": "8,8"}
    plan = make_plan(load_config({**options, "resample": True})).plan
    assert plan.input.voxel_size == ("30", "8", "8")
    assert plan.input.shape == (20, 24, 12)
