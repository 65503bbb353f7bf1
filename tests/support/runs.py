"""Real runs: the command `predict` as a user starts it, over real arrays."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import zarr

from blockwise_predict.config.model import RunConfig, load_config
from blockwise_predict.io import create_output, open_output
from blockwise_predict.plan.make import make_plan
from blockwise_predict.records import RunDir, default_run_dir
from blockwise_predict.records.ledger import PREDICTED, State, records_of
from blockwise_predict.records.output_spec import output_specs
from blockwise_predict.run.planned import run_dir_of
from tests.support.forked import predict_forked
from tests.support.networks import save_network

VOXEL_SIZE = (10, 10, 10)
# No command of a test takes so long (seconds), on the slowest machine.
PATIENCE_S = 300.0


def write_volume(
    path: Path, data: np.ndarray, voxel_size: Sequence[float] = VOXEL_SIZE, offset=None
) -> str:
    """A zarr 2 volume with funlib attributes; returns `container/raw`."""
    array = zarr.create_array(
        str(path),
        name="raw",
        shape=data.shape,
        chunks=(16,) * data.ndim,
        dtype=data.dtype,
        zarr_format=2,
    )
    array[...] = data
    axes = ["z", "y", "x"][-len(voxel_size) :]
    channels = data.ndim - len(axes)
    array.attrs.update(
        {
            "voxel_size": list(voxel_size),
            "offset": list(offset or (0,) * len(voxel_size)),
            "axis_names": ["c^"] * channels + axes,
            "units": [""] * channels + ["nm"] * len(axes),
        }
    )
    return f"{path}/raw"


def command(*arguments: object) -> list[str]:
    """`predict ARGUMENTS` with this interpreter."""
    return [sys.executable, "-m", "blockwise_predict", *map(str, arguments)]


def predict(*arguments: object, code: int = 0, **environment: str) -> str:
    """Run `predict`, check its exit code, and give what it printed."""
    words = [str(argument) for argument in arguments]
    if environment:
        # What it changes would be too late for a process that has imported everything.
        result = subprocess.run(
            command(*words),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
            env={**os.environ, **environment},
        )
        returned, output = result.returncode, result.stdout + result.stderr
    else:
        returned, output = predict_forked(words, os.environ, PATIENCE_S)
    assert returned == code, output
    if code in (1, 2):
        assert "Traceback" not in output or code == 1, output
    return output


def tiny_config(folder: Path, shape: Sequence[int], **options: object) -> RunConfig:
    """The configuration of a tiny network's run over a volume of a shape."""
    weights, architecture = save_network(folder)
    raw = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    return load_config(
        {
            "checkpoint": str(weights),
            "architecture": str(architecture),
            "input": write_volume(folder / "raw.zarr", raw),
            "output": f"{folder}/out.zarr/prediction",
            "device": "cpu",
            **options,
        }
    )


def recorded_run(folder: Path) -> RunConfig:
    """The configuration of a tiny run that is recorded, with its output, and has done no block."""
    config = tiny_config(folder, (20, 20, 20))
    plan = make_plan(config).plan
    RunDir(default_run_dir(config.output)).record(plan, "predict run")
    for spec in output_specs(plan, "predict run"):
        create_output(spec)
    return config


def read_output(path: str) -> np.ndarray:
    """All of an output, `[K, *spatial]`."""
    array = open_output(path)
    return array.read((0,) * len(array.shape), array.shape)


def stored_bytes(path: str) -> dict[str, bytes]:
    """Every chunk file of an array, by name."""
    root = Path(path)
    names = (p for p in root.rglob("*") if p.is_file() and not p.name.startswith("."))
    return {str(p.relative_to(root)): p.read_bytes() for p in names if p.suffix != ".json"}


def events(run_dir: Path, kind: str) -> list[dict[str, Any]]:
    """All events of a kind."""
    return [event for event in RunDir(run_dir).events.read() if event["event"] == kind]


def forget_blocks(run_dir: Path) -> None:
    """Set all blocks of a run back to where they were."""
    records = RunDir(run_dir)
    plan = records.plan()
    records.replace_ledger(plan, records_of(np.zeros(plan.blocks_per_axis, np.uint8)))


def blocks_done(run_dir: Path) -> int:
    """Number of blocks that the ledger records as predicted; 0 if there is no run yet."""
    records = RunDir(run_dir)
    if not records.begun:
        return 0
    with closing(records.ledger(records.plan())) as ledger:
        return ledger.count(*PREDICTED)


def processes_of(run_dir: Path) -> list[psutil.Process]:
    """Processes that have a run's folder on their command line: its workers."""
    every = psutil.process_iter(["cmdline"])
    return [p for p in every if str(run_dir) in (p.info["cmdline"] or [])]


def until(condition: Callable[[], bool], seconds: float = 100) -> None:
    """Wait until a condition holds; it must within so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def completed_run(folder: Path, shape: Sequence[int], **options: object) -> str:
    """The output of a run that is recorded as complete, full of random values: nothing ran."""
    config = tiny_config(folder, shape, **options)
    plan = make_plan(config).plan
    records = run_dir_of(config)
    records.record(plan, "predict run")
    for spec in output_specs(plan, "predict run"):
        create_output(spec)
    output = open_output(config.output)
    generator = np.random.default_rng(1)
    for block in plan.blocks():
        data = generator.random((output.channels, *block.shape)).astype(output.dtype)
        output.write(block.begin - plan.output.roi.begin, data)
    states = np.full(plan.blocks_per_axis, State.DONE, np.uint8)
    records.replace_ledger(plan, records_of(states))
    return output.path
