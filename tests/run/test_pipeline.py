"""A plan as a task of a real daisy pipeline: order, exactness, resume, killed workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import yaml
import zarr
from funlib.geometry import Coordinate, Roi

from blockwise_predict.checkpoint import open_checkpoint
from blockwise_predict.errors import ConfigError, GeometryError, RunStateError
from blockwise_predict.io import read_attributes
from blockwise_predict.records import default_run_dir
from blockwise_predict.records.provenance import ATTRIBUTE
from blockwise_predict.run.pipelines.daisy_task import daisy_task
from blockwise_predict.run.pipelines.grid import task_grid, task_rois
from blockwise_predict.run.planned import plan_run
from tests.support.jobs import Job
from tests.support.networks import save_network
from tests.support.reference import Held, one_pass
from tests.support.runs import (
    PATIENCE_S,
    blocks_done,
    predict,
    read_output,
    stored_bytes,
    tiny_config,
    until,
)
from tests.support.shared import ROOT

SHAPE = (40, 36, 33)
BLOCKS = 27
FRAGMENT_BLOCKS = 4 * 2 * 2


class Pipeline:
    """A tiny network over a 40 x 36 x 33 volume in 27 blocks, and fragments of what it predicts."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder = folder
        self.plain = Job(folder)
        self.options = {
            **self.plain.given,
            "output": str(folder / "out.zarr" / "affs"),
            "workers": 2,
            **options,
        }
        self.output = self.options["output"]
        self.run_dir = default_run_dir(self.output)
        self.fragments = folder / "fragments" / "labels.zarr"
        self.fragments.parent.mkdir()
        self.log = self.fragments.parent / "fragments.jsonl"

    def start(self, *more: object, **environment: str) -> subprocess.Popen[str]:
        """Run it in a process of its own, as its users do."""
        config = self.folder / "config.yaml"
        config.write_text(yaml.safe_dump(self.options))
        code = "from tests.support.pipelines import main; main()"
        return subprocess.Popen(
            [sys.executable, "-c", code, str(config), str(self.fragments), *map(str, more)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{self.folder / 'site'}", **environment},
        )

    def run(self, *more: object, **environment: str) -> dict[str, list[int]]:
        """Run it to its end: blocks completed (of them skipped) and failed, by task."""
        return finished(self.start(*more, **environment))

    def peaceful(self) -> dict[str, bytes]:
        """The chunks that `predict run` writes."""
        return stored_bytes(self.plain.undisturbed())

    def notes(self) -> list[dict[str, Any]]:
        """What each block of fragments saw of the affinities as it began."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def misbehave(self, body: str) -> None:
        """Code that every process of the pipeline runs as it starts."""
        site = self.folder / "site"
        site.mkdir(exist_ok=True)
        (site / "sitecustomize.py").write_text(body)


def finished(process: subprocess.Popen[str]) -> dict[str, list[int]]:
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, out + errors
    return json.loads(out)


# In each of daisy's workers: from its block number `first` on, wait for a file.
WAITING = """
import sys
if "daisy._subprocess_worker" in sys.orig_argv:
    import itertools, os, time
    from blockwise_predict.worker import block
    process, count = block.BlockProcessor.process, itertools.count(1)
    def wait(self, roi, turn):
        late, deadline = next(count) >= {first}, time.monotonic() + 400
        while late and not os.path.exists({file!r}):
            assert time.monotonic() < deadline, "waited too long"
            time.sleep(0.02)
        return process(self, roi, turn)
    block.BlockProcessor.process = wait
"""
POISON = """
import sys
if "daisy._subprocess_worker" in sys.orig_argv:
    from blockwise_predict.worker import block
    process = block.BlockProcessor.process
    def poisoned(self, roi, turn):
        if tuple(roi.begin) == (16, 16, 16):
            raise ValueError("poison")
        return process(self, roi, turn)
    block.BlockProcessor.process = poisoned
"""


@pytest.mark.slow
def test_fragments_follow_affinities(tmp_path: Path) -> None:
    job = Pipeline(tmp_path)
    assert job.run() == {"predict": [BLOCKS, 0, 0], "fragments": [FRAGMENT_BLOCKS, 0, 0]}
    notes = job.notes()
    assert len(notes) == FRAGMENT_BLOCKS
    assert not [note for note in notes if note["undone"]]
    labels = zarr.open_array(job.fragments)[...]
    assert len(np.unique(labels)) > FRAGMENT_BLOCKS
    # What was predicted is what `predict run` predicts, to the byte, and one forward pass.
    assert stored_bytes(job.output) == job.peaceful()
    model = open_checkpoint(job.options["checkpoint"], architecture=job.options["architecture"])
    raw = job.plain.raw.astype(np.float32)[None] / 255
    whole = one_pass(model.build(), model.shapes, Held(raw), Roi((0, 0, 0), SHAPE))
    np.testing.assert_allclose(read_output(job.output), whole, atol=1e-5 * np.abs(whole).max())
    # The run's own records and the output say the same.
    assert f"{BLOCKS} blocks: {BLOCKS} complete" in predict("verify", job.output, "--sample", 3)
    assert read_attributes(job.output)[ATTRIBUTE]["complete"] is True
    # A second time, nothing is left to do.
    labels_before = stored_bytes(str(job.fragments))
    assert job.run()["predict"] == [BLOCKS, BLOCKS, 0]
    assert len(job.notes()) == FRAGMENT_BLOCKS
    assert stored_bytes(str(job.fragments)) == labels_before


@pytest.mark.slow
def test_without_the_dependency_fragments_come_too_early(tmp_path: Path) -> None:
    """What the test of the order sees when there is none."""
    job = Pipeline(tmp_path, workers=1)
    job.misbehave(WAITING.format(first=1, file=str(job.log)))
    job.run("--apart")
    assert [note for note in job.notes() if note["undone"]]


@pytest.mark.slow
def test_fragments_begin_before_the_last_affinities(tmp_path: Path) -> None:
    """As soon as the blocks are there that the first of them reads: 0 to 13, in C order."""
    job = Pipeline(tmp_path, workers=1, slots=1)
    job.misbehave(WAITING.format(first=15, file=str(job.log)))
    assert job.run()["predict"] == [BLOCKS, 0, 0]
    assert not [note for note in job.notes() if note["undone"]]
    assert job.notes()[0]["done"] == 14


def workers_of(process: subprocess.Popen[str], run_dir: Path) -> list[psutil.Process]:
    """Workers that daisy has started for the prediction: those that hold its ledger open."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if any(Path(file.path).parent == run_dir for file in child.open_files()):
                found.append(child)
        except psutil.Error:
            continue
    return found


@pytest.mark.slow
def test_a_killed_worker_costs_nothing(tmp_path: Path) -> None:
    job = Pipeline(tmp_path)
    go = tmp_path / "go"
    job.misbehave(WAITING.format(first=3, file=str(go)))
    process = job.start()
    # Two workers have done two blocks each, and hold two.
    until(lambda: blocks_done(job.run_dir) == 4, PATIENCE_S)
    killed, other = workers_of(process, job.run_dir)
    killed.kill()
    go.touch()
    counts = finished(process)
    assert counts == {"predict": [BLOCKS, 0, 0], "fragments": [FRAGMENT_BLOCKS, 0, 0]}
    assert not other.is_running()
    assert not [note for note in job.notes() if note["undone"]]
    assert stored_bytes(job.output) == job.peaceful()
    assert f"{BLOCKS} blocks: {BLOCKS} complete" in predict("verify", job.output)


@pytest.mark.slow
def test_a_killed_pipeline_goes_on(tmp_path: Path) -> None:
    job = Pipeline(tmp_path)
    go = tmp_path / "go"
    job.misbehave(WAITING.format(first=3, file=str(go)))
    process = job.start()
    until(lambda: blocks_done(job.run_dir) == 4, PATIENCE_S)
    # Its lock is held by the process that made the task.
    refused = predict("verify", job.output, "--repair", code=2)
    assert f"is in use by process {process.pid}" in refused
    workers = workers_of(process, job.run_dir)
    process.kill()
    process.wait()
    go.touch()
    psutil.wait_procs(workers, timeout=PATIENCE_S)
    # Workers finish what they hold.
    assert blocks_done(job.run_dir) == 8
    assert read_attributes(job.output)[ATTRIBUTE]["complete"] is False
    assert "8 complete" in predict("verify", job.output, code=1)
    assert job.run()["predict"] == [BLOCKS, 8, 0]
    assert stored_bytes(job.output) == job.peaceful()
    assert read_attributes(job.output)[ATTRIBUTE]["complete"] is True


@pytest.mark.slow
def test_predict_run_finishes_what_a_pipeline_began(tmp_path: Path) -> None:
    job = Pipeline(tmp_path, retries=0)
    job.misbehave(POISON)
    process = job.start()
    out, errors = process.communicate(timeout=300)
    assert json.loads(out)["predict"] == [BLOCKS - 1, 0, 1], errors
    text = predict("verify", job.output, code=1)
    assert "1 failed" in text
    assert "poison" in text
    assert read_attributes(job.output)[ATTRIBUTE]["complete"] is False
    predict("run", tmp_path / "config.yaml")
    assert f"{BLOCKS} complete" in predict("verify", job.output)
    assert stored_bytes(job.output) == job.peaceful()
    (tmp_path / "site" / "sitecustomize.py").unlink()
    assert job.run()["predict"] == [BLOCKS, BLOCKS, 0]


@pytest.mark.slow
def test_an_input_that_the_pipeline_writes(tmp_path: Path) -> None:
    """Predicted as it is in the end, though it was empty when the plan was made."""
    job = Pipeline(tmp_path, bad_input="fill-missing")
    expected = job.peaceful()
    array = zarr.open_array(job.options["input"])
    array[...] = 0
    np.save(tmp_path / "raw.npy", job.plain.raw)
    counts = job.run("--raw", tmp_path / "raw.npy")
    assert counts["predict"] == [BLOCKS, 0, 0]
    assert stored_bytes(job.output) == expected


def test_another_model_is_refused(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, (20, 20, 20), workers=1)
    daisy_task(plan_run(config))
    save_network(tmp_path, seed=1)
    with pytest.raises(RunStateError, match=r"weights \(sha256\): was"):
        daisy_task(plan_run(config))


def test_daisy_starts_its_workers_here(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, (20, 20, 20), fleet="slurm", gpus=0)
    with pytest.raises(ConfigError, match="fleet slurm: the pipeline starts its workers itself"):
        daisy_task(plan_run(config))
    assert not default_run_dir(config.output).exists()


def test_voxels_that_are_no_integers_of_nm(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, (20, 20, 20), voxel_size="4.5,4,4")
    with pytest.raises(GeometryError, match=r"voxels of 4.5 x 4 x 4 nm.*unit='voxel'"):
        daisy_task(plan_run(config))
    assert not default_run_dir(config.output).exists()
    task = daisy_task(plan_run(config), unit="voxel")
    assert task.write_roi == Roi((0, 0, 0), (20, 20, 20))


@pytest.mark.parametrize("upsample", [None, [[2, 2, 2]]])
def test_what_blocks_read_is_within_what_daisy_waits_for(
    tmp_path: Path, upsample: list[list[int]] | None
) -> None:
    more = {} if upsample is None else {"upsample_factors": upsample}
    config = tiny_config(
        tmp_path,
        (50, 47, 41),
        block_shape="14,9,23",
        chunk_shape="7,9,23",
        roi="[50:430,30:,20:390]",
        offset="30,-40,0",
    )
    save_network(tmp_path, **more)
    plan = plan_run(config).plan
    grid = task_grid(plan, "nm")
    rois = task_rois(plan, grid)
    context = rois.write.begin - rois.read.begin
    first = rois.total.begin + context
    assert first == Coordinate(plan.output_grid.world(plan.output.roi.begin))
    step = Coordinate(plan.block_shape) * Coordinate(grid.voxel_size)
    for number in range(plan.num_blocks):
        block = plan.numbered_block(number)
        begin = grid.roi(block).begin
        assert not any((begin - first) % step)
        assert grid.voxel(begin) == block.begin
        assert plan.block_number(grid.voxel(begin)) == number
        read = plan.lattice.read_roi(block)
        origin = plan.input.grid.world((0, 0, 0))
        size = Coordinate(plan.input.grid.voxel_size)
        read_nm = Roi(read.begin * size + Coordinate(origin), read.shape * size)
        assert (rois.read + begin).contains(read_nm)
