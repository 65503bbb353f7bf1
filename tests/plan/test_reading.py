"""Chunks that are decoded, beside what a plan says."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing, nullcontext
from pathlib import Path

import numpy as np
import pytest
import tensorstore as ts
import torch

from blockwise_predict.engine.border import read_padded
from blockwise_predict.geometry.order import BlockOrder
from blockwise_predict.io import CheckedInput, DecodedChunks
from blockwise_predict.plan.estimate import Estimate, estimate
from blockwise_predict.plan.make import Planned, make_plan
from blockwise_predict.plan.model import Plan
from blockwise_predict.plan.opened import reopen
from blockwise_predict.plan.reading import reading_of
from blockwise_predict.scheduling.blocks import DaisyBlockSource
from tests.support.runs import tiny_config

MISSES = "/tensorstore/cache/miss_count"
CHUNK_BYTES = 16**3


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Planned:
    """A volume in chunks of 16."""
    return made(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def cropped(tmp_path_factory: pytest.TempPathFactory) -> Planned:
    return made(tmp_path_factory.mktemp("cropped"), roi="[130:970,:,55:1600]")


def made(folder: Path, **options: object) -> Planned:
    sizes = {"chunk_shape": "16,16,16", "block_shape": "32,32,32"}
    return make_plan(tiny_config(folder, (104, 90, 170), **sizes, **options))


def planned(volume: Planned, cache: int, workers: int = 1) -> tuple[Plan, Estimate]:
    """The plan for workers that can keep some chunks."""
    tiling = volume.plan.tiling.model_copy(update={"cache_bytes": cache * CHUNK_BYTES})
    config = volume.plan.config.model_copy(update={"workers": workers})
    plan = volume.plan.model_copy(update={"tiling": tiling, "config": config})
    return plan, estimate(plan, volume.opened.model)


def decoded_chunks(plan: Plan) -> int:
    """Chunks that are decoded when workers take turns at reading the blocks of a plan."""
    reading, workers = reading_of(plan), plan.config.workers
    arrays = [reopen(plan, torch.device("cpu")).array for _ in range(workers)]
    chunks = [DecodedChunks(array, reading.kept_bytes) for array in arrays]
    decoded = 0
    for number, worker in handed_out(reading.order, workers):
        block = plan.numbered_block(number)
        roi, before = plan.lattice.read_roi(block), misses()
        needed = reading.needed_after(block)
        keeping = chunks[worker].reading(needed) if reading.kept_bytes else None
        with keeping or nullcontext(arrays[worker]) as array:
            data = read_padded(CheckedInput(array, "fail"), roi, plan.border)
        decoded += misses() - before
        if number % 7 == 0:
            plain = read_padded(arrays[worker], roi, plan.border)
            np.testing.assert_array_equal(data, plain)
    return decoded


def handed_out(order: BlockOrder, workers: int) -> Iterator[tuple[int, int]]:
    """All blocks, with the worker that gets each, if all are equally fast."""
    skip_mask = np.zeros(int(np.prod(order.grid)), np.uint8)
    with closing(DaisyBlockSource(order, skip_mask, workers)) as blocks:
        for worker in itertools.cycle(range(workers)):
            number = blocks.next(worker)
            if number is None:
                return
            yield number, worker


def misses() -> int:
    counters = ts.experimental_collect_matching_metrics(MISSES)
    return sum(int(value["value"]) for counter in counters for value in counter["values"])


@pytest.mark.parametrize("cache", [10_000, 150, 100])
@pytest.mark.parametrize("volume", ["whole", "cropped"])
def test_one_worker_decodes_what_is_planned(
    cache: int, volume: str, request: pytest.FixtureRequest
) -> None:
    plan, cost = planned(request.getfixturevalue(volume), cache)
    reading = reading_of(plan)
    assert reading.kept_bytes
    assert (reading.order.column == plan.blocks_per_axis) == (cache == 10_000)
    assert decoded_chunks(plan) * CHUNK_BYTES == cost.bytes_in


@pytest.mark.parametrize(("workers", "most"), [(2, 1.01), (3, 1.01), (16, 1.4)])
def test_several_workers_decode_what_is_planned_and_some_more(
    workers: int, most: float, whole: Planned
) -> None:
    """Of a few blocks for each, they take over many from each other."""
    plan, cost = planned(whole, 150, workers)
    assert 0.99 <= decoded_chunks(plan) * CHUNK_BYTES / cost.bytes_in <= most


def test_several_workers_get_columns_of_their_own(whole: Planned) -> None:
    """If the cache would hold all as one column."""
    orders = [reading_of(planned(whole, 10_000, workers)[0]).order for workers in (1, 3)]
    assert [np.prod(order.columns) for order in orders] == [1, 3]


def test_a_larger_cache_saves_decoding(whole: Planned) -> None:
    costs = [planned(whole, cache)[1].read_amplification for cache in (0, 20, 100, 150, 10_000)]
    assert costs == sorted(costs, reverse=True)
    assert costs[0] > 2
    assert costs[-1] < 1.2


def test_chunks_too_large_to_be_kept_are_left_to_the_cache(whole: Planned) -> None:
    plan, cost = planned(whole, 20)
    reading = reading_of(plan)
    assert (reading.kept_bytes, reading.recent_bytes) == (0, plan.tiling.cache_bytes)
    assert reading.order == BlockOrder.in_c_order(plan.blocks_per_axis)
    assert decoded_chunks(plan) >= cost.bytes_in / CHUNK_BYTES


@pytest.mark.parametrize("where", [{"format": "precomputed"}, {"path": "https://lab.org/a.zarr"}])
def test_the_storage_keeps_a_block_whose_gaps_are_seen_by_reading(
    where: dict[str, str], whole: Planned
) -> None:
    plan, _ = planned(whole, 150)
    remote = reading_of(plan.model_copy(update={"input": plan.input.model_copy(update=where)}))
    assert reading_of(plan).recent_bytes == 0
    assert remote.recent_bytes > 0
    assert remote.kept_bytes + remote.recent_bytes == plan.tiling.cache_bytes
    assert max(remote.order.column) <= max(reading_of(plan).order.column)
