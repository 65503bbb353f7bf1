"""What a plan says it will cost, beside what reading really does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorstore as ts
import torch

from blockwise_predict.config import load_config
from blockwise_predict.engine.border import read_padded
from blockwise_predict.estimate import Estimate, estimate
from blockwise_predict.plan import Plan
from blockwise_predict.planning import make_plan
from blockwise_predict.processor import open_parts
from tests.networks import save_network
from tests.runs import write_volume

MISSES = "/tensorstore/cache/miss_count"


def planned(folder: Path, **options: object) -> tuple[Plan, Estimate]:
    folder.mkdir(exist_ok=True)
    weights, architecture = save_network(folder)
    raw = np.random.default_rng(0).integers(0, 256, (150, 140, 260), np.uint8)
    given = {
        "checkpoint": str(weights),
        "architecture": str(architecture),
        "input": write_volume(folder / "raw.zarr", raw),
        "output": f"{folder}/out.zarr/prediction",
        "device": "cpu",
        "chunk_shape": "32,32,32",
        "block_shape": "96,96,96",
        **options,
    }
    plan, model = make_plan(load_config(given))
    return plan, estimate(plan, model.shapes)


def decoded_chunks(plan: Plan) -> int:
    """Chunks of the input that are decoded when its blocks are read in their order."""
    parts = open_parts(plan, torch.device("cpu"))
    before = misses()
    for block in plan.blocks():
        read_padded(parts.source, plan.lattice.read_roi(block), plan.border)
    return misses() - before


def misses() -> int:
    counters = ts.experimental_collect_matching_metrics(MISSES)
    return sum(int(value["value"]) for counter in counters for value in counter["values"])


def test_too_little_memory_is_told(tmp_path: Path) -> None:
    plan, _ = planned(tmp_path, memory="50MiB", block_shape=None)
    (warning,) = plan.warnings
    assert "but --memory allows 50 MiB, even in the smallest tiles" in warning


@pytest.mark.parametrize("roi", [None, "[130:1270,:,55:2500]"])
def test_chunks_are_decoded_no_more_often_than_planned(roi: str | None, tmp_path: Path) -> None:
    plan, cost = planned(tmp_path, roi=roi)
    assert cost.exact
    chunk_bytes = 16**3
    assert decoded_chunks(plan) * chunk_bytes <= cost.bytes_in


def test_the_cache_saves_what_blocks_share(tmp_path: Path) -> None:
    """Several workers take turns at the blocks, so none finds its own last one beside the next."""
    plan, alone = planned(tmp_path / "1")
    _, shared = planned(tmp_path / "2", workers=2)
    without = plan.model_copy(update={"tiling": plan.tiling.model_copy(update={"cache_bytes": 0})})
    # A chunk may still be in use when the next block asks for it.
    assert decoded_chunks(without) * 16**3 == pytest.approx(shared.bytes_in, rel=0.02)
    assert 1 < alone.read_amplification < 0.9 * shared.read_amplification
