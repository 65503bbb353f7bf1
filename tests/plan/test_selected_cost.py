"""What some of a plan's blocks cost, beside the plan's whole cost and counts block by block."""

from __future__ import annotations

from collections import defaultdict
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from funlib.geometry import Roi

from blockwise_predict.plan.axis_costs import read_chunks
from blockwise_predict.plan.decoding import shared_by_workers
from blockwise_predict.plan.estimate import estimate, pass_flops
from blockwise_predict.plan.make import make_plan
from blockwise_predict.plan.reading import reading_of
from blockwise_predict.plan.selected_cost import estimate_selected
from tests.support.runs import tiny_config


@pytest.mark.parametrize(("workers", "cache"), [(1, 1000), (2, 1000), (1, 110), (1, 20)])
def test_the_cost_of_selected_blocks_is_counted_exactly(
    workers: int, cache: int, tmp_path: Path
) -> None:
    sizes = {"chunk_shape": "16,16,16", "block_shape": "32,16,48"}
    config = tiny_config(
        tmp_path, (75, 50, 130), roi="[30:700,:,40:1290]", workers=workers, **sizes
    )
    made = make_plan(config)
    model = made.opened.model
    tiling = made.plan.tiling.model_copy(update={"cache_bytes": cache * 16**3})
    plan = made.plan.model_copy(update={"tiling": tiling})
    whole = np.ones(plan.blocks_per_axis, bool)
    assert estimate_selected(plan, model, whole) == estimate(plan, model)

    some = np.random.default_rng(0).random(whole.shape) < 0.5
    volume = Roi((0, 0, 0), plan.input.shape)
    read = np.zeros(plan.input.shape, bool)
    passes = flops = voxels = 0
    reading, in_turn = reading_of(plan), 0
    columns: defaultdict[tuple[int, ...], set[tuple[int, ...]]] = defaultdict(set)
    before: set[tuple[int, ...]] = set()
    for place in product(*map(range, some.shape)):
        if not some[place]:
            before = set()
            continue
        block = plan.numbered_block(int(np.ravel_multi_index(place, some.shape)))
        tiles = list(plan.lattice.cover(block))
        passes += len(tiles)
        flops += sum(pass_flops(model, tuple(tile.read.shape)) for tile in tiles)
        inside = plan.lattice.read_roi(block).intersect(volume)
        read[inside.to_slices()] = True
        ranges = (read_chunks(plan, a, *plan.block_range(a, place[a])) for a in range(3))
        chunks = set(product(*ranges))
        columns[reading.order.place_of(place)] |= chunks
        in_turn += len(chunks - before if place[2] else chunks)
        voxels += block.size
        before = chunks
    cost = estimate_selected(plan, model, some)
    assert (cost.passes, cost.flops) == (passes, flops)
    # What workers share is the same share of chunks as of blocks.
    shared = round(shared_by_workers(reading) * some.mean()) if workers > 1 else 0
    assert (shared > 0) == (workers > 1)
    assert (len(columns) > 1) == (cache < 1000)
    assert (reading.kept_bytes > 0) == (cache > 20)
    decoded = sum(map(len, columns.values())) + shared if cache > 20 else in_turn
    assert cost.bytes_in == decoded * 16**3
    assert cost.bytes_out == voxels * plan.output.voxel_bytes
    assert cost.read_amplification == pytest.approx(cost.bytes_in / read.sum())
    assert cost.exact

    nothing = estimate_selected(plan, model, ~whole)
    assert (nothing.passes, nothing.flops, nothing.bytes_in, nothing.bytes_out) == (0, 0, 0, 0)
