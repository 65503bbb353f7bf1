"""Chunks that are decoded, beside what a plan says."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tensorstore as ts
import torch

from blockwise_predict.engine.border import read_padded
from blockwise_predict.io import CheckedInput, DecodedChunks
from blockwise_predict.plan.estimate import Estimate, estimate
from blockwise_predict.plan.make import make_plan
from blockwise_predict.plan.model import Plan
from blockwise_predict.plan.opened import reopen
from blockwise_predict.plan.reading import reading_of
from blockwise_predict.scheduling.blocks import OrderedBlocks
from tests.support.runs import tiny_config

MISSES = "/tensorstore/cache/miss_count"
CHUNK_BYTES = 16**3


def planned(folder: Path, cache: int, **options: object) -> tuple[Plan, Estimate]:
    """A plan of a volume in chunks of 16, for workers that can keep some chunks."""
    shapes = {"chunk_shape": "16,16,16", "block_shape": "32,32,32"}
    made = make_plan(tiny_config(folder, (104, 90, 170), **{**shapes, **options}))
    tiling = made.plan.tiling.model_copy(update={"cache_bytes": cache * CHUNK_BYTES})
    plan = made.plan.model_copy(update={"tiling": tiling})
    return plan, estimate(plan, made.opened.model)


def decoded_chunks(plan: Plan) -> int:
    """Chunks that are decoded when workers take turns at reading the blocks of a plan."""
    reading, workers = reading_of(plan), plan.config.workers
    blocks = OrderedBlocks(reading.order, np.zeros(plan.num_blocks, np.uint8))
    arrays = [reopen(plan, torch.device("cpu")).array for _ in range(workers)]
    chunks = [DecodedChunks(array, plan.tiling.cache_bytes) for array in arrays]
    decoded, turn = 0, 0
    while not blocks.empty:
        worker, turn = turn % workers, turn + 1
        number = blocks.next(worker)
        assert number is not None
        block = plan.numbered_block(number)
        read = None
        if reading.keeps_chunks:
            read = partial(chunks[worker].read, needed=reading.needed_after(block))
        source = CheckedInput(arrays[worker], "fail", read)
        roi, before = plan.lattice.read_roi(block), misses()
        data = read_padded(source, roi, plan.border)
        decoded += misses() - before
        if number % 7 == 0:
            plain = read_padded(arrays[worker], roi, plan.border)
            np.testing.assert_array_equal(data, plain)
    return decoded


def misses() -> int:
    counters = ts.experimental_collect_matching_metrics(MISSES)
    return sum(int(value["value"]) for counter in counters for value in counter["values"])


@pytest.mark.parametrize("cache", [10_000, 150, 100])
@pytest.mark.parametrize("roi", [None, "[130:970,:,55:1600]"])
def test_one_worker_decodes_what_is_planned(cache: int, roi: str | None, tmp_path: Path) -> None:
    plan, cost = planned(tmp_path, cache, roi=roi)
    reading = reading_of(plan)
    assert reading.keeps_chunks
    assert (reading.order.column == plan.blocks_per_axis) == (cache == 10_000)
    assert decoded_chunks(plan) * CHUNK_BYTES == cost.bytes_in


@pytest.mark.parametrize("workers", [2, 16])
def test_several_workers_decode_about_what_is_planned(workers: int, tmp_path: Path) -> None:
    plan, cost = planned(tmp_path, 150, workers=workers)
    assert decoded_chunks(plan) * CHUNK_BYTES == pytest.approx(cost.bytes_in, rel=0.1)


def test_a_larger_cache_saves_decoding(tmp_path: Path) -> None:
    costs = []
    for cache in (0, 20, 100, 150, 10_000):
        folder = tmp_path / str(cache)
        folder.mkdir()
        costs.append(planned(folder, cache)[1].read_amplification)
    assert costs == sorted(costs, reverse=True)
    assert costs[0] > 2
    assert costs[-1] < 1.2


def test_chunks_too_large_to_be_kept_are_left_to_the_cache(tmp_path: Path) -> None:
    plan, cost = planned(tmp_path, 20)
    assert not reading_of(plan).keeps_chunks
    assert reading_of(plan).order.numbers(0, 5).tolist() == list(range(5))
    assert decoded_chunks(plan) >= cost.bytes_in / CHUNK_BYTES
