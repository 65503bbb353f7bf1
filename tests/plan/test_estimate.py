"""What a plan says it will cost, beside what reading really does."""

from __future__ import annotations

import json
import re
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from blockwise_predict.checkpoint import TrainedModel, open_checkpoint
from blockwise_predict.geometry.lattice import AxisLattice
from blockwise_predict.plan import estimate as estimate_module
from blockwise_predict.plan.estimate import Estimate, estimate, pass_flops
from blockwise_predict.plan.make import make_plan
from blockwise_predict.plan.model import Plan
from tests.support.networks import save_network
from tests.support.runs import predict, tiny_config


def planned(folder: Path, **options: object) -> tuple[Plan, Estimate]:
    folder.mkdir(exist_ok=True)
    shapes = {"chunk_shape": "32,32,32", "block_shape": "96,96,96"}
    config = tiny_config(folder, (150, 140, 260), **{**shapes, **options})
    made = make_plan(config)
    return made.plan, estimate(made.plan, made.opened.model)


def test_too_little_memory_is_told(tmp_path: Path) -> None:
    plan, _ = planned(tmp_path, memory="50MiB", block_shape=None)
    (warning,) = plan.warnings
    assert (
        "but --memory allows 50 MiB beside the weights (4.99 KiB), even in the smallest tiles"
        in warning
    )


def model_of(plan: Plan) -> TrainedModel:
    config = plan.config
    return open_checkpoint(config.checkpoint, architecture=config.architecture)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"roi": "[130:1270,:,55:2500]", "block_shape": "32,64,96"},
        {"border": "valid", "tile_shape": "32,48,60"},
    ],
)
def test_costs_by_axis_are_those_of_the_blocks_one_by_one(
    options: dict[str, str], tmp_path: Path
) -> None:
    plan, cost = planned(tmp_path, **options)
    model = model_of(plan)
    tiles = [
        tuple(tile.read.shape) for block in plan.blocks() for tile in plan.lattice.cover(block)
    ]
    assert cost.passes == len(tiles)
    assert cost.flops == sum(pass_flops(model, tile) for tile in tiles)


def test_blocks_that_repeat_are_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks of 12 on chunks of 16 and a lattice of 2 lie as before after four of them."""
    options = {"chunk_shape": "12,12,12", "block_shape": "12,12,12", "tile_shape": "20,20,20"}
    plan, cost = planned(tmp_path, **options)
    assert plan.blocks_per_axis == (13, 12, 22)
    assert cost.exact
    monkeypatch.setattr(estimate_module, "_period", lambda *_: 1000)
    assert estimate(plan, model_of(plan)) == cost


def test_of_a_long_period_the_first_blocks_stand_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"chunk_shape": "5,5,5", "block_shape": "5,5,5", "tile_shape": "20,20,20"}
    plan, exact = planned(tmp_path, **options)
    assert exact.exact
    monkeypatch.setattr(estimate_module, "MAX_PERIOD", 13)
    sampled = estimate(plan, model_of(plan))
    assert not sampled.exact
    assert sampled.passes == pytest.approx(exact.passes, rel=0.02)
    assert sampled.flops == pytest.approx(exact.flops, rel=0.02)
    assert sampled.bytes_in == pytest.approx(exact.bytes_in, rel=0.1)


def write_empty_volume(path: Path, edge: int) -> str:
    """The metadata of a cubic volume of which no chunk is stored; returns `container/raw`."""
    array = path / "raw"
    array.mkdir(parents=True)
    metadata = {
        "zarr_format": 2,
        "shape": [edge] * 3,
        "chunks": [64] * 3,
        "dtype": "|u1",
        "compressor": None,
        "fill_value": 0,
        "order": "C",
        "filters": None,
    }
    attributes = {"voxel_size": [10] * 3, "offset": [0] * 3, "axis_names": ["z", "y", "x"]}
    (array / ".zarray").write_text(json.dumps(metadata))
    (array / ".zattrs").write_text(json.dumps({**attributes, "units": ["nm"] * 3}))
    return str(array)


@pytest.mark.parametrize("edge", [60 * 64, 10**6, 10**9])
def test_planning_does_not_walk_the_blocks(
    edge: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = 0

    def counted(of: Any) -> Any:
        def counting(*arguments: Any) -> Any:
            nonlocal built
            built += 1
            return of(*arguments)

        return counting

    for owner, method in ((Plan, "block"), (AxisLattice, "cover"), (AxisLattice, "nth_pass")):
        monkeypatch.setattr(owner, method, counted(getattr(owner, method)))
    volume = write_empty_volume(tmp_path / "huge.zarr", edge)
    given = {"input": volume, "chunk_shape": "64,64,64", "block_shape": "64,64,64"}
    tracemalloc.start()
    try:
        plan, cost = planned(tmp_path / "1", **given)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert plan.num_blocks == (-(-edge // 64)) ** 3
    assert cost.exact
    assert built < 2000
    assert peak < 50e6


def test_more_blocks_than_can_be_recorded_are_told_by_plan_and_refused_by_run(
    tmp_path: Path,
) -> None:
    weights, architecture = save_network(tmp_path)
    volume = write_empty_volume(tmp_path / "huge.zarr", 10**9)
    given = (
        *("--checkpoint", weights, "--architecture", architecture, "--input", volume),
        *("--output", tmp_path / "out.zarr" / "affs", "--device", "cpu"),
        *("--block-shape", "1024,1024,1024"),
    )
    before = sorted(tmp_path.iterdir())
    # (10^9 / 1024)^3 blocks of 17 bytes.
    told = r"the records of 931,[\d,]+ blocks take .* MiB are free"
    output = " ".join(predict("plan", *given).split())
    assert "the ledger takes" in output
    assert re.search(f"Warning: {told}", output)
    assert re.search(f"Error: {told}", predict("run", *given, code=2))
    assert sorted(tmp_path.iterdir()) == before
