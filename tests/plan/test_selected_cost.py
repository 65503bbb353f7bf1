"""What some of a plan's blocks cost, beside the plan's whole cost and counts block by block."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from funlib.geometry import Roi

from blockwise_predict.plan.axis_costs import read_chunks
from blockwise_predict.plan.estimate import estimate, pass_flops
from blockwise_predict.plan.make import make_plan
from blockwise_predict.plan.selected_cost import estimate_selected
from tests.support.runs import tiny_config


@pytest.mark.parametrize("workers", [1, 2])
def test_the_cost_of_selected_blocks_is_counted_exactly(workers: int, tmp_path: Path) -> None:
    sizes = {"chunk_shape": "16,16,16", "block_shape": "32,16,48"}
    config = tiny_config(
        tmp_path, (75, 50, 130), roi="[30:700,:,40:1290]", workers=workers, **sizes
    )
    made = make_plan(config)
    plan, model = made.plan, made.opened.model
    whole = np.ones(plan.blocks_per_axis, bool)
    assert estimate_selected(plan, model, whole) == estimate(plan, model)

    some = np.random.default_rng(0).random(whole.shape) < 0.5
    volume = Roi((0, 0, 0), plan.input.shape)
    read = np.zeros(plan.input.shape, bool)
    passes = flops = chunks = voxels = 0
    before: tuple[int, ...] = ()
    for place in product(*map(range, some.shape)):
        if not some[place]:
            continue
        block = plan.numbered_block(int(np.ravel_multi_index(place, some.shape)))
        tiles = list(plan.lattice.cover(block))
        passes += len(tiles)
        flops += sum(pass_flops(model, tuple(tile.read.shape)) for tile in tiles)
        inside = plan.lattice.read_roi(block).intersect(volume)
        read[inside.to_slices()] = True
        z, y, x = (set(read_chunks(plan, a, *plan.block_range(a, place[a]))) for a in range(3))
        if workers == 1 and before == (*place[:2], place[2] - 1):
            x -= set(read_chunks(plan, 2, *plan.block_range(2, before[2])))
        chunks += len(z) * len(y) * len(x)
        voxels += block.size
        before = place
    cost = estimate_selected(plan, model, some)
    assert (cost.passes, cost.flops) == (passes, flops)
    assert cost.bytes_in == chunks * 16**3
    assert cost.bytes_out == voxels * plan.output.voxel_bytes
    assert cost.read_amplification == pytest.approx(cost.bytes_in / read.sum())
    assert cost.exact

    nothing = estimate_selected(plan, model, ~whole)
    assert (nothing.passes, nothing.flops, nothing.bytes_in, nothing.bytes_out) == (0, 0, 0, 0)
