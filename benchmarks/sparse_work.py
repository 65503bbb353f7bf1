"""Measures what a run of a million blocks, of which a mask leaves few, takes to its first block.

    python benchmarks/sparse_work.py

Everything before the workers start is real: planning, reading the mask, the records, the output's
metadata and the block source. The input is an array without stored chunks. Importing torch, some
seconds, is not counted.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import zarr

sys.path.insert(0, str(Path(__file__).parent.parent))

from blockwise_predict.config.model import load_config
from blockwise_predict.plan.reading import reading_of
from blockwise_predict.run.planned import plan_run
from blockwise_predict.run.prepare import apply_options, blocks_to_skip, prepare_run
from blockwise_predict.run.reporter import Reporter
from blockwise_predict.scheduling.blocks import DaisyBlockSource
from tests.support.networks import save_network

BLOCKS, BLOCK = 100, 64
# One voxel of the mask for 16^3 of the input.
MASK_VOXEL = 16


def main() -> None:
    """Prepare a run, and print how long each step took."""
    with tempfile.TemporaryDirectory() as folder:
        config = load_config(_options(Path(folder)))
        begun = time.process_time(), time.perf_counter()
        with _timed("plan, read the mask"):
            run = plan_run(config)
        assert run.selection is not None
        computed = int(run.selection.computed.sum())
        print(f"{run.plan.num_blocks:,} blocks, {computed:,} to compute")
        with _timed("records and output"):
            run.run_dir.make()
            prepare_run(run, "benchmark", Reporter())
        with closing(run.run_dir.ledger(run.plan)) as ledger:
            with _timed("selection into the ledger"):
                apply_options(run, ledger)
            with _timed("first block from the source"):
                skip_mask = blocks_to_skip(ledger, only_failed=False)
                source = DaisyBlockSource(reading_of(run.plan).order, skip_mask, workers=1)
        source.close()
        _print("all, until the first block is ready", begun)
        with _timed("(predict plan: the exact cost)"):
            assert run.description


def _options(folder: Path) -> dict[str, object]:
    weights, architecture = save_network(folder)
    edge = BLOCKS * BLOCK
    group = zarr.open_group(str(folder / "in.zarr"), mode="w", zarr_format=2)
    raw = group.create_array("raw", shape=(edge,) * 3, chunks=(BLOCK,) * 3, dtype="u1")
    raw.attrs.update({"voxel_size": [8, 8, 8], "offset": [0, 0, 0]})
    shape = (edge // MASK_VOXEL,) * 3
    mask = group.create_array("mask", shape=shape, chunks=(BLOCK,) * 3, dtype="u1")
    mask.attrs.update({"voxel_size": [8 * MASK_VOXEL] * 3, "offset": [0, 0, 0]})
    tissue = np.zeros(shape, np.uint8)
    # The last blocks of all: the source has to pass over all others.
    tissue[-20:, -100:, -200:] = 1
    mask[...] = tissue
    return {
        "checkpoint": str(weights),
        "architecture": str(architecture),
        "input": str(folder / "in.zarr/raw"),
        "mask": str(folder / "in.zarr/mask"),
        "output": str(folder / "out.zarr/prediction"),
        "block_shape": (BLOCK,) * 3,
        "device": "cpu",
    }


@contextmanager
def _timed(what: str) -> Iterator[None]:
    begun = time.process_time(), time.perf_counter()
    yield
    _print(what, begun)


def _print(what: str, begun: tuple[float, float]) -> None:
    cpu, wall = time.process_time() - begun[0], time.perf_counter() - begun[1]
    print(f"{what:<36}{cpu:6.2f} s of CPU, {wall:6.2f} s")


if __name__ == "__main__":
    main()
