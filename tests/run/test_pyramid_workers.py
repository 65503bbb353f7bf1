"""Pyramids made by worker processes: killed, resumed, and never by two commands at once."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

from blockwise_predict.engine.compute_queue import Compute
from blockwise_predict.errors import RunStateError
from blockwise_predict.io.downsampled import levels_of, listed_levels
from blockwise_predict.records import RunDir, default_run_dir
from blockwise_predict.records.ledger import State, read_states
from blockwise_predict.records.pyramid import pyramid_dir, recorded_pyramid
from blockwise_predict.run.pyramid import steps
from blockwise_predict.run.pyramid.build import Watch
from blockwise_predict.run.pyramid.make import Wanted, make_pyramid
from blockwise_predict.worker.block import BlockReport
from blockwise_predict.worker.downsample import downsample
from blockwise_predict.worker.level_block import LevelProcessor
from tests.support.jobs import SMALL, Job
from tests.support.runs import (
    command,
    completed_run,
    events,
    predict,
    processes_of,
    read_output,
    until,
)
from tests.support.sabotage import at_startup

# The shards of level 1, the first twelve of which are made before the kill.
COUNT, BEFORE = 30, 12

# Blocks are single shards; the worker waits to be killed.
WAITING = f"""
import sys
if "pyramid" in sys.orig_argv:
    from blockwise_predict.run.pyramid import steps
    steps.BLOCK_BYTES = 1
if "worker" in sys.orig_argv:
    import time
    from blockwise_predict.worker.level_block import LevelProcessor
    process = LevelProcessor.process_number
    def some(self, number, compute):
        if number >= {BEFORE}:
            time.sleep(1000)
        return process(self, number, compute)
    LevelProcessor.process_number = some
"""
SIZES = {"chunk_shape": (8, 8, 8), "block_shape": (16, 16, 16), "shard_shape": (8, 16, 16)}


def check_levels(output: str, count: int) -> None:
    below, levels = read_output(output), listed_levels(output)
    assert len(levels) == count
    for path, level in levels:
        below = downsample(below, level.factors, "mean")
        np.testing.assert_array_equal(read_output(path), below)


def test_a_pyramid_survives_the_kill_of_all_its_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = completed_run(tmp_path, (80, 70, 60), **SIZES)
    records = pyramid_dir(RunDir(default_run_dir(output)))
    at_startup(monkeypatch, tmp_path, WAITING)
    process = subprocess.Popen(command("pyramid", output, "--workers", "1"))
    until(lambda: done_in(records) == BEFORE)
    with pytest.raises(RunStateError, match=f"is in use by process {process.pid}"):
        make_pyramid(Wanted(output, "mean", None), {}, Watch())
    (worker,) = processes_of(records.path)
    for one in (process, worker):
        one.send_signal(signal.SIGKILL)
    process.wait()
    assert len(levels_of(output)) == 4
    assert not listed_levels(output)

    made: list[int] = []
    process_number = LevelProcessor.process_number

    def noting(self: LevelProcessor, number: int, compute: Compute) -> BlockReport:
        made.append(number)
        return process_number(self, number, compute)

    monkeypatch.setattr(steps, "BLOCK_BYTES", 1)
    monkeypatch.setattr(LevelProcessor, "process_number", noting)
    assert make_pyramid(Wanted(output, "mean", None), {}, Watch())
    check_levels(output, 4)
    # 5 x 3 x 2 shards of level 1, 3 x 2 x 1 of level 2, then single chunks.
    assert sorted(made) == list(range(BEFORE, COUNT + 6 + 2 + 1))


def done_in(records: RunDir) -> int:
    """Number of blocks that a pyramid's ledger records as done."""
    plan = recorded_pyramid(records)
    if plan is None:
        return 0
    states = [read_states(file, (plan.num_blocks,)) for file in records.path.glob("blocks-*.npy")]
    return sum(int((found == State.DONE).sum()) for found in states)


def test_a_run_has_its_fleet_make_the_levels(job: Job) -> None:
    predict(*job.arguments("f", *SMALL, "--pyramid", "--fleet", "nice -n 1"))
    check_levels(job.output("f"), 1)
    records = pyramid_dir(RunDir(job.run_dir("f")))
    assert len(events(records.path, "join")) == 1
    assert not processes_of(records.path)
    RunDir(job.run_dir("f")).clear()
    assert not records.path.exists()
