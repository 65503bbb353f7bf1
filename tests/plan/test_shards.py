"""Which chunks of a block are one shard, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import zarr

from blockwise_predict.config.model import RunConfig, load_config
from blockwise_predict.errors import ConfigError, GeometryError
from blockwise_predict.io import create_output
from blockwise_predict.plan.make import make_plan
from blockwise_predict.plan.model import Plan
from blockwise_predict.records.output_spec import output_specs
from tests.support.networks import save_network

SHAPE = (40, 72, 64)
# 5 x 9 x 8 chunks along the ROI, 4 x 4 x 4 in a block: 2 channels of 512 float32, 4096 bytes each.
SIZES = {"chunk_shape": "8,8,8", "block_shape": "32,32,32"}
CHUNK_BYTES = 4096
MEAN = {"augment": "flips", "augment_channels": "scalars"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds a network; volumes are added."""
    folder = tmp_path_factory.mktemp("plans")
    save_network(folder)
    return folder


def config_of(folder: Path, **options: Any) -> RunConfig:
    """The configuration of a run over a volume of a shape, of which no chunk is stored."""
    shape = options.pop("shape", SHAPE)
    volume = folder / f"{shape}.zarr"
    if not volume.exists():
        array = zarr.create_array(
            str(volume), name="raw", shape=shape, chunks=(64,) * 3, dtype="u1"
        )
        array.attrs.update({"voxel_size": [8, 8, 8], "offset": [0, 0, 0], "units": ["nm"] * 3})
    given = {
        "checkpoint": str(folder / "weights.pt"),
        "architecture": str(folder / "architecture.yaml"),
        "input": f"{volume}/raw",
        "output": f"{folder}/out.zarr/prediction",
        "device": "cpu",
        "precision": "float32",
    }
    return load_config({**given, **SIZES, **options})


def plan_of(folder: Path, **options: Any) -> Plan:
    return make_plan(config_of(folder, **options)).plan


@pytest.mark.parametrize(
    ("options", "shards"),
    [
        # A row of a block's chunks.
        ({}, (8, 32, 32)),
        # Streamed along the longest axis of the block.
        ({"block_shape": "16,32,64"}, (16, 32, 8)),
        ({"shard_size": 16 * CHUNK_BYTES}, (8, 32, 32)),
        ({"shard_size": 16 * CHUNK_BYTES - 1}, (8, 16, 32)),
        ({"shard_size": 40 * CHUNK_BYTES}, (16, 32, 32)),
        ({"shard_size": "1GB"}, (32, 32, 32)),
        # Three chunks along an axis are one, or three.
        ({"shard_size": 8 * CHUNK_BYTES, "block_shape": "24,24,24"}, (8, 8, 24)),
        ({"shard_size": CHUNK_BYTES}, None),
        ({"shard_shape": "none"}, None),
        ({"shard_shape": "16,16,32"}, (16, 16, 32)),
        ({"block_shape": "8,8,8"}, None),
        ({"format": "zarr2"}, None),
        # Of a few chunks each is a file, unless shards are asked for.
        ({"shape": (32, 32, 32)}, None),
        ({"shape": (32, 32, 33)}, (8, 32, 32)),
        ({"shape": (32, 32, 32), "shard_size": "1GB"}, (32, 32, 32)),
        # Means are complete all at once, and given out along the first axis.
        (
            {**MEAN, "block_shape": "16,32,64"},
            (8, 32, 64),
        ),
    ],
)
def test_shards_divide_blocks(
    folder: Path, options: dict[str, Any], shards: tuple[int, ...] | None
) -> None:
    plan = plan_of(folder, **options)
    assert plan.output.shard_shape == shards
    assert not any(b % w for b, w in zip(plan.block_shape, plan.output.write_shape, strict=True))


def test_blocks_are_chosen_in_whole_shards_and_chunks_need_not_fit_the_roi(folder: Path) -> None:
    plan = plan_of(folder, chunk_shape=None, block_shape=None, shard_shape="48,128,192")
    assert plan.output.chunk_shape == (48, 64, 64)
    assert not any(b % s for b, s in zip(plan.block_shape, (48, 128, 192), strict=True))
    assert any("shards of 48,128,192 voxels reach beyond the ROI" in note for note in plan.notes)


def test_thick_shards_are_planned_for_and_given_up_where_memory_is_short(folder: Path) -> None:
    options = {"shape": (512, 512, 512), "chunk_shape": "32,32,32", "block_shape": "512,512,512"}
    row = 32 * 512 * 512 * 8
    thin = plan_of(folder, **options, memory="16GiB")
    thick = plan_of(folder, **options, memory="16GiB", shard_size="1GB")
    assert thin.output.shard_shape == (32, 512, 512)
    assert thick.output.shard_shape == (256, 512, 512)
    assert thick.tiling.memory_bytes - thin.tiling.memory_bytes >= 14 * row
    # Half of the cache is what nothing else needed.
    short = thin.tiling.memory_bytes - thin.tiling.cache_bytes // 2 + 3 * row
    found = plan_of(folder, **options, memory=short, shard_size="1GB")
    assert found.output.shard_shape in [(64, 512, 512), (128, 512, 512)]
    assert found.tiling.memory_bytes <= short
    assert found.lattice == thin.lattice


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"shard_shape": "16,16,12"}, GeometryError, "not a multiple of the chunks 8,8,8. Nearest"),
        ({"shard_shape": "16,16"}, ConfigError, "--shard-shape 16,16 has 2 axes"),
        (
            {"shard_shape": "16,16,24"},
            GeometryError,
            "--block-shape 32,32,32 is not a multiple of the output's shards 16,16,24, so two",
        ),
        (
            {"shard_shape": "16,16,16", "format": "zarr2"},
            ConfigError,
            "--shard-shape: the output is zarr2, which has no shards. Leave the option out",
        ),
        ({"shard_size": "1MB", "format": "zarr2"}, ConfigError, "--shard-size: the output is"),
        ({"shard_size": "1MB", "shard_shape": "none"}, ConfigError, "are both given"),
        ({"shard_shape": "0,1,1"}, ConfigError, "every size must be at least 1, or none"),
    ],
)
def test_what_does_not_fit_is_refused(
    folder: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        plan_of(folder, **options)


def test_a_recorded_run_keeps_its_shards(folder: Path) -> None:
    config = config_of(folder)
    sharded, plain = make_plan(config).plan, plan_of(folder, shard_shape="none")
    record = plain.model_dump(mode="json")
    # As versions without shards recorded it.
    del record["output"]["shard_shape"], record["config"]["shard_shape"]
    earlier = Plan.model_validate(record)
    assert make_plan(config, earlier).plan.output.shard_shape is None
    assert earlier.identity()["shard shape"] is None
    assert make_plan(config, sharded).plan.output == sharded.output
    larger = config.model_copy(update={"shard_size": 1 << 30})
    resumed = make_plan(larger, sharded).plan
    assert resumed.output == sharded.output
    assert Plan.model_validate_json(resumed.model_dump_json()) == resumed


def test_specs_of_the_arrays_have_the_shards(folder: Path) -> None:
    plan = plan_of(folder, output=f"{folder}/made.zarr/prediction")
    (spec,) = output_specs(plan, "predict run")
    output = create_output(spec)
    assert (output.chunk_shape, output.write_shape) == ((8, 8, 8), (8, 32, 32))


def test_a_block_may_be_larger_than_the_roi_along_an_axis(folder: Path) -> None:
    """Then its chunks are not larger either, and no other block shares them."""
    plan = plan_of(folder, shape=(20, 64, 64), chunk_shape=None, block_shape="64,64,64")
    assert plan.output.chunk_shape == (20, 64, 64)
    assert plan.block_shape == (20, 64, 64)
