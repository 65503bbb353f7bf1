"""A worker that runs out of memory goes on with smaller tiles."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.support.networks import save_network
from tests.support.runs import predict, read_output, write_volume

# Does a finished run's only block again and again, each time with less memory to spare, until it
# does not do in one piece.
AGAIN = """
import re, resource, sys, torch
from pathlib import Path
from blockwise_predict.worker.processor import build_processor
from blockwise_predict.records import RunDir

torch.set_num_threads(1)
run_dir = RunDir(Path(sys.argv[1]))
plan = run_dir.plan()
processor = build_processor(plan, torch.device("cpu"), run_dir)
(block,) = plan.blocks()
processor.process(block)
status = Path("/proc/self/status").read_text()
taken = 1024 * int(re.search(r"VmSize:\\s+(\\d+) kB", status)[1])
_, most = resource.getrlimit(resource.RLIMIT_AS)
spare = 200 * 2**20
lattice = processor.predictor.lattice
while processor.predictor.lattice is lattice:
    resource.setrlimit(resource.RLIMIT_AS, (taken + spare, most))
    processor.process(block)
    spare = int(spare * 0.7)
"""


def test_out_of_memory_makes_tiles_smaller(tmp_path: Path) -> None:
    weights, architecture = save_network(tmp_path, num_fmaps=12)
    raw = np.random.default_rng(0).integers(0, 256, (20, 320, 320), np.uint8)
    source = write_volume(tmp_path / "raw.zarr", raw)
    output, run_dir = f"{tmp_path}/out.zarr/prediction", tmp_path / "run"
    options = ("--precision", "float32", "--block-shape", "20,320,320", "--run-dir", run_dir)
    network = ("--checkpoint", weights, "--architecture", architecture)
    predict("run", *network, "--input", source, "--output", output, *options)
    expected = read_output(output)

    again = [sys.executable, "-c", AGAIN, str(run_dir)]
    # What is freed goes back to the system at once, and may be had again.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "100000", "MALLOC_ARENA_MAX": "1"}
    result = subprocess.run(
        again, capture_output=True, text=True, check=False, timeout=300, env=environment
    )
    assert result.returncode == 0, result.stderr
    assert "out of memory: tiles are (36, 336, 176) instead of (36, 336, 336)" in result.stdout
    np.testing.assert_allclose(read_output(output), expected, atol=1e-5)
