"""Sizes for networks with a time axis: blocks grow in space, passes have the frames of training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from funlib.geometry import Roi

from blockwise_predict.checkpoint import TrainedModel, open_checkpoint
from blockwise_predict.geometry.tiling import build_lattice, check_tile, smallest_tile
from blockwise_predict.plan.blocks import crop_block
from blockwise_predict.plan.sizing import Limits, Sizing
from tests.support.networks import save_network
from tests.support.predictors import predicted_block, predictor
from tests.support.reference import Held
from tests.support.time_networks import TIME_NETWORKS

MIB = 2**20
CHUNK = (1, 16, 16, 16)
ROI = (10, 200, 150, 180)


def trained(folder: Path, name: str) -> TrainedModel:
    weights, architecture = save_network(folder, **TIME_NETWORKS[name])
    return open_checkpoint(weights, architecture=architecture)


def sizing(model: TrainedModel, memory: int = 2000 * MIB, frames: int | None = None) -> Sizing:
    return Sizing(
        model,
        raw_bytes=1,
        output_bytes=len(model.channel_names),
        dtype=torch.float32,
        limits=Limits(memory, 1, 2, "cpu"),
        frames=frames,
    )


@pytest.mark.parametrize(
    ("name", "frames"), [("time dropped at the deepest level", 5), ("time kept", 9)]
)
def test_passes_have_the_frames_of_training(name: str, frames: int, tmp_path: Path) -> None:
    model = trained(tmp_path, name)
    lattice = build_lattice(model.shapes, smallest_tile(model.shapes))
    choice, roi = sizing(model), Roi((0,) * 4, ROI)
    block = choice.block(ROI, CHUNK)
    assert block[0] == frames - model.shapes.context[0]
    assert all(b > c for b, c in zip(block[1:], CHUNK[1:], strict=True))
    tile = choice.tile(lattice, roi, block, CHUNK)
    assert tile[0] == frames
    assert choice.tile(lattice, roi, (10, *block[1:]), CHUNK)[0] == frames
    # Where a block needs fewer frames than training had, fewer are read.
    one = choice.tile(lattice, roi, (1, *block[1:]), CHUNK)
    assert one[0] == 1 + model.shapes.context[0]
    check_tile(tile, model.shapes, 4)
    output, inside = model.shapes.output_shape(tile), crop_block(block, ROI)
    assert all(o >= b for o, b in zip(output[1:], inside[1:], strict=True))
    streaming = choice.streaming(block, tile, CHUNK)
    assert streaming.axes[-1] == 0
    assert sorted(streaming.axes) == [0, 1, 2, 3]
    assert choice.bytes(block, tile, CHUNK) <= 2000 * MIB


def test_frames_take_memory(tmp_path: Path) -> None:
    model = trained(tmp_path, "time kept")
    block, tile = (4, 128, 128, 128), (144, 144, 144)
    few, many = (
        sizing(model, frames=frames).bytes(
            block, model.shapes.valid_input_shape((frames, *tile)), CHUNK
        )
        for frames in (9, 30)
    )
    # The cache takes as much of the memory for both.
    assert many > 1.1 * few
    scarce = sizing(model, 150 * MIB)
    lattice = build_lattice(model.shapes, smallest_tile(model.shapes))
    cut = scarce.tile(lattice, Roi((0,) * 4, ROI), block, CHUNK)
    ample = sizing(model).tile(lattice, Roi((0,) * 4, ROI), block, CHUNK)
    assert cut[0] == ample[0]
    assert np.prod(cut) < np.prod(ample)


@pytest.mark.parametrize("name", ["time dropped on the way up", "time kept"])
def test_what_is_chosen_predicts_a_block(name: str, tmp_path: Path) -> None:
    model = trained(tmp_path, name)
    roi, block, chunk = (4, 26, 24, 25), (2, 12, 12, 12), (2, 6, 6, 6)
    lattice = build_lattice(model.shapes, smallest_tile(model.shapes))
    choice = sizing(model)
    tile = choice.tile(lattice, Roi((0,) * 4, roi), block, chunk)
    streaming = choice.streaming(block, tile, chunk)
    others = (tile[0], *(n - p for n, p in zip(tile[1:], model.shapes.period[1:], strict=True)))
    chosen, smaller = (predictor(model, each, streaming) for each in (tile, others))
    volume = Held(np.random.default_rng(0).random((1, *roi), np.float32))
    where = Roi((1, 3, 2, 5), block)
    expected = predicted_block(smaller, volume, where)
    np.testing.assert_allclose(predicted_block(chosen, volume, where), expected, atol=1e-5)
