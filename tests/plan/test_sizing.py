"""Sizes: least halo within the memory, enough blocks for the workers."""

from __future__ import annotations

from math import ceil, prod
from pathlib import Path

import pytest
import torch
from funlib.geometry import Roi

from blockwise_predict.architectures.trace import halo_overhead
from blockwise_predict.checkpoint import TrainedModel, open_checkpoint
from blockwise_predict.engine import memory
from blockwise_predict.geometry.tiling import build_lattice, smallest_tile
from blockwise_predict.plan.sizing import BLOCKS_PER_WORKER, Limits, Sizing
from tests.support.networks import save_network

GIB = 2**30
CHUNK = (64, 64, 64)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    factors = [[2, 2, 2]] * 2
    weights, architecture = save_network(
        tmp_path_factory.mktemp("net"), num_fmaps=12, downsample_factors=factors
    )
    return open_checkpoint(weights, architecture=architecture)


def sizing(model: TrainedModel, size: int = 16 * GIB, workers: int = 1) -> Sizing:
    return Sizing(
        model,
        raw_bytes=1,
        output_bytes=len(model.channel_names),
        dtype=torch.float32,
        limits=Limits(size, workers, 2, "cpu"),
    )


@pytest.mark.parametrize("roi", [(100, 100, 100), (700, 650, 1000), (5000, 64, 3000)])
@pytest.mark.parametrize("workers", [1, 8])
def test_blocks_are_chunks_and_enough_for_the_workers(
    model: TrainedModel, roi: tuple[int, ...], workers: int
) -> None:
    block = sizing(model, workers=workers).block(roi, CHUNK)
    assert all(b % c == 0 for b, c in zip(block, CHUNK, strict=True))
    chunks = prod(ceil(n / c) for n, c in zip(roi, CHUNK, strict=True))
    blocks = prod(ceil(n / b) for n, b in zip(roi, block, strict=True))
    assert blocks >= min(chunks, BLOCKS_PER_WORKER * workers)


def test_more_memory_means_less_halo_and_is_not_exceeded(model: TrainedModel) -> None:
    roi, lattice = (4000, 4000, 4000), build_lattice(model.shapes, smallest_tile(model.shapes))
    halos = []
    for size in (GIB // 8, GIB // 2, 4 * GIB):
        choice = sizing(model, size)
        block = choice.block(roi, CHUNK)
        tile = choice.tile(lattice, Roi((0, 0, 0), roi), block, CHUNK)
        assert choice.bytes(block, tile, CHUNK) <= size
        halos.append(halo_overhead(model.shapes, tile))
    assert halos == sorted(halos, reverse=True)
    assert halos[-1] < 1.1


def test_a_tile_is_cut_in_the_plane_when_its_block_is_given(model: TrainedModel) -> None:
    lattice = build_lattice(model.shapes, smallest_tile(model.shapes))
    roi = block = (512, 512, 512)
    ample = sizing(model).tile(lattice, Roi((0, 0, 0), roi), block, CHUNK)
    scarce = sizing(model, GIB // 2).tile(lattice, Roi((0, 0, 0), roi), block, CHUNK)
    assert model.shapes.output_shape(ample) == roi
    assert scarce[0] == ample[0]
    assert prod(scarce) < prod(ample)
    # Until its other tiles are done, all of the block's output waits.
    assert sizing(model).bytes(block, scarce, CHUNK) > prod(block) * 2
    assert model.shapes.valid_input_shape(scarce) == scarce


@pytest.mark.parametrize(
    ("variables", "limit"),
    [
        ({"SLURM_MEM_PER_NODE": "100"}, 100 * 2**20),
        ({"SLURM_MEM_PER_CPU": "10", "SLURM_CPUS_ON_NODE": "4"}, 40 * 2**20),
        ({"SLURM_MEM_PER_NODE": "0"}, None),
    ],
)
def test_slurms_limits_count(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], limit: int | None
) -> None:
    free = memory.available_bytes(torch.device("cpu"))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    found = memory.available_bytes(torch.device("cpu"))
    assert found == limit if limit else found > free / 2


def test_a_control_groups_limit_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")
    monkeypatch.setattr(memory, "CGROUP_V2", tmp_path)
    assert memory.available_bytes(torch.device("cpu")) == 600000
    # Files that the kernel has read ahead count as used, but are given up when memory is asked for.
    (tmp_path / "memory.stat").write_text("anon 200000\ninactive_file 150000\nactive_file 50000\n")
    assert memory.available_bytes(torch.device("cpu")) == 750000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.available_bytes(torch.device("cpu")) > 600000


def test_memory_where_nothing_limits_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "CGROUP_V1", tmp_path / "none")
    monkeypatch.setattr(memory, "CGROUP_V2", tmp_path / "none")
    for variable in ("SLURM_MEM_PER_NODE", "SLURM_MEM_PER_CPU"):
        monkeypatch.delenv(variable, raising=False)
    assert memory.available_bytes(torch.device("cpu")) > 0
