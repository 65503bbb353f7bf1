"""The input has the voxel size that the networks were trained at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from blockwise_predict.checkpoint import open_checkpoint
from blockwise_predict.config.model import RunConfig, load_config
from blockwise_predict.errors import ArrayError, CheckpointError, ConfigError
from blockwise_predict.io import open_in_memory
from blockwise_predict.plan.make import make_plan
from blockwise_predict.plan.model import Plan
from tests.support.arrays import ramp
from tests.support.networks import TINY_3D, save_network
from tests.support.pyramids import write_pyramid
from tests.support.runs import tiny_config, write_volume

TINY_2D = {"input_shape": [20, 20], "downsample_factors": [[2, 2]]}
ZARR = {"__type__": "ZarrArrayConfig", "file_name": "raw.zarr", "dataset": "em/s1"}
TIFF = {"__type__": "TiffArrayConfig", "voxel_size": (4, 4, 4), "units": ["nm"] * 3}


def stated(folder: Path, size: Any, **options: Any) -> RunConfig:
    """The configuration of a run over 10 nm, of a network whose document states a voxel size."""
    config = tiny_config(folder, (20, 20, 20), **options)
    state(folder, input_voxel_size=size)
    return config


def state(folder: Path, **more: Any) -> None:
    document = folder / "architecture.yaml"
    document.write_text(yaml.dump({**yaml.safe_load(document.read_text()), **more}))


@pytest.mark.parametrize("size", [[10, 10, 10], [10.0000001, 10, 9.999]])
def test_the_same_voxels_to_a_thousandth(tmp_path: Path, size: list[float]) -> None:
    assert make_plan(stated(tmp_path, size)).plan.warnings == ()


def test_other_voxels_are_refused_by_name_unless_allowed(tmp_path: Path) -> None:
    config = stated(tmp_path, [10.02, 10, 10])
    problem = (
        f"{tmp_path}/raw.zarr/raw has voxels of 10 x 10 x 10 nm (attribute 'voxel_size' of "
        f"raw/.zattrs), but {tmp_path}/weights.pt was trained at 10.02 x 10 x 10 nm "
        f"(input_voxel_size of {tmp_path}/architecture.yaml)."
    )
    with pytest.raises(ArrayError) as told:
        make_plan(config)
    assert str(told.value).startswith(problem)
    assert "--allow-voxel-size-mismatch" in str(told.value)
    assert "resample these with --resample" in str(told.value)
    allowed = config.model_copy(update={"allow_voxel_size_mismatch": True})
    assert problem in make_plan(allowed).plan.warnings


def test_the_option_has_precedence_over_the_checkpoint(tmp_path: Path) -> None:
    config = stated(tmp_path, [8, 8, 8], model_voxel_size="10,10,10")
    (warning,) = make_plan(config).plan.warnings
    assert warning.startswith("--model-voxel-size 10 x 10 x 10 nm is used, although")
    wrong = config.model_copy(update={"model_voxel_size": (8, 8, 8)})
    with pytest.raises(ArrayError, match=r"was trained at 8 x 8 x 8 nm \(--model-voxel-size\)"):
        make_plan(wrong)
    flat = config.model_copy(update={"model_voxel_size": (8, 8)})
    with pytest.raises(ConfigError, match="is a 3-D network; give 3 positive lengths"):
        make_plan(flat)


def test_voxels_that_are_given_or_assumed(tmp_path: Path) -> None:
    config = stated(tmp_path, [8, 8, 8])
    corrected = config.model_copy(update={"voxel_size": (8, 8, 8)})
    assert make_plan(corrected).plan.input.voxel_size == ("8", "8", "8")
    # An array in memory that says nothing of its voxels cannot contradict.
    raw = np.random.default_rng(0).integers(0, 256, (20, 20, 20), np.uint8)
    nowhere = open_in_memory(raw)
    assert make_plan(config, array=nowhere).plan.warnings == ()
    somewhere = open_in_memory(raw, voxel_size=(4, 4, 4))
    with pytest.raises(ArrayError, match=r"voxels of 4 x 4 x 4 nm \(voxel_size\)"):
        make_plan(config, array=somewhere)


@pytest.mark.parametrize("size", [[8, 4], [40, 8, 4]])
def test_slices_are_compared_for_a_2d_network(tmp_path: Path, size: list[float]) -> None:
    weights, architecture = save_network(tmp_path, **TINY_2D)
    state(tmp_path, input_voxel_size=size)
    options = {"checkpoint": str(weights), "architecture": str(architecture), "device": "cpu"}
    options["output"] = f"{tmp_path}/out.zarr/out"
    volume = write_volume(tmp_path / "raw.zarr", ramp((20, 24, 24)), (30, 8, 4))
    make_plan(load_config({**options, "input": volume}))
    other = write_volume(tmp_path / "other.zarr", ramp((20, 24, 24)), (30, 4, 8))
    with pytest.raises(ArrayError, match=r"trained at 8 x 4 nm \(input_voxel_size"):
        make_plan(load_config({**options, "input": other}))


def test_a_resumed_run_stays_at_its_level(tmp_path: Path) -> None:
    group = write_pyramid(tmp_path / "image.zarr", ramp((40, 40, 40)))
    config = stated(tmp_path, [8, 8, 8], input=str(group))
    plan = Plan.model_validate_json(make_plan(config).plan.model_dump_json())
    level = plan.input.level
    assert level is not None
    assert plan.input.path == level.location == f"{group}/s1"
    assert level.reason in plan.notes[0]
    # Without the network's voxel size the level would have to be named.
    state(tmp_path, input_voxel_size=[16, 16, 16])
    with pytest.raises(ArrayError, match="s1 has voxels of 8 x 8 x 8 nm"):
        make_plan(config, plan)
    state(tmp_path, input_voxel_size=[8, 8, 8])
    metadata = group / ".zattrs"
    metadata.write_text(metadata.read_text().replace("0.008", "0.08"))
    with pytest.raises(ArrayError, match="no level with the voxel size"):
        make_plan(config)
    with pytest.raises(ArrayError, match="s1 has voxels of 80 x 80 x 80 nm"):
        make_plan(config, plan)


def datasplit(*raws: Any) -> dict[str, Any]:
    """A datasplit as DaCapo's YAML has it, with one training dataset for each array."""
    datasets = [{"__type__": "RawGTDatasetConfig", "raw_config": raw} for raw in raws]
    return {"__type__": "TrainValidateDataSplitConfig", "train_configs": datasets}


def within(kind: str, source: Any, **more: Any) -> dict[str, Any]:
    return {"__type__": kind, "source_array_config": source, **more}


SNAPPED = within("IntensitiesArrayConfig", {**ZARR, "snap_to_grid": (8, 8, 8)}, min=0, max=255)
RESAMPLED = within("ResampledArrayConfig", TIFF, upsample=(1, 1, 1), downsample=(2, 2, 2))


@pytest.mark.parametrize(
    ("raws", "size", "key"),
    [
        ([SNAPPED, SNAPPED], (8, 8, 8), "snap_to_grid"),
        ([within("CropArrayConfig", TIFF)], (4, 4, 4), "voxel_size"),
        ([RESAMPLED], (8, 8, 8), "voxel_size"),
        ([SNAPPED, TIFF], None, ""),
        ([{**TIFF, "units": ["um"] * 3}], None, ""),
        ([ZARR], None, ""),
        ([within("ResampledArrayConfig", TIFF, upsample=3, downsample=(2, 2, 2))], None, ""),
        ([{**TIFF, "voxel_size": "4"}, None], None, ""),
    ],
)
def test_what_a_dacapo_run_tells(
    tmp_path: Path, raws: list[Any], size: tuple[int, ...] | None, key: str
) -> None:
    weights, _ = save_network(tmp_path)
    run = tmp_path / "run.yaml"
    # With the tuple tags of DaCapo's own files.
    run.write_text(
        yaml.dump({"architecture_config": {**TINY_3D}, "datasplit_config": datasplit(*raws)})
    )
    model = open_checkpoint(weights, architecture=run)
    assert model.voxel_size == size
    if size is not None:
        assert model.voxel_size_source == f"{key} of the training data in {run}"
        assert model.record["trained at"] == f"{', '.join(map(str, size))} nm"


def test_a_voxel_size_that_is_none(tmp_path: Path) -> None:
    weights, architecture = save_network(tmp_path)
    state(tmp_path, input_voxel_size="8 nm")
    with pytest.raises(CheckpointError, match="input_voxel_size is '8 nm', but must be a list"):
        open_checkpoint(weights, architecture=architecture)
