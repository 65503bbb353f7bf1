"""A plan as a task of volara, in an environment of volara's own: it needs another daisy than we."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
import yaml
import zarr

from blockwise_predict.errors import RunStateError
from blockwise_predict.io import read_attributes
from blockwise_predict.records import RunDir, default_run_dir
from blockwise_predict.records.provenance import ATTRIBUTE
from blockwise_predict.run.pipelines.volara_bridge import serve_blocks, serve_run
from blockwise_predict.run.planned import plan_run
from tests.support.environments import new_environment, pip_install
from tests.support.jobs import Job
from tests.support.networks import save_network
from tests.support.pickles import MakesFolder
from tests.support.runs import (
    blocks_done,
    predict,
    read_output,
    stored_bytes,
    tiny_config,
    until,
)
from tests.support.shared import ROOT

VOLARA = "volara==1.0.5"
BLOCKS = 27

# What a user writes: the plugin by its entry point, and volara's own fragments after it.
PIPELINE = """
import sys
import volara.blockwise as blockwise
from volara.datasets import Affs, Labels
from volara.dbs import SQLite

config, python, output = sys.argv[1:]
before = set(sys.modules)
blockwise.get_blockwise_tasks_type()
# The plugin needs none of our packages in this process.
assert not {"torch", "tensorstore", "aiohttp"} & (set(sys.modules) - before)
Predict = blockwise.get_task("blockwise-predict")
affinities = Predict(config=config, python=python, num_workers=2)
fragments = blockwise.ExtractFrags(
    db=SQLite(path="fragments.sqlite"),
    affs_data=Affs(store=output, neighborhood=[[1, 0, 0], [0, 1, 0]]),
    frags_data=Labels(store="fragments.zarr/labels"),
    block_size=(12, 20, 20),
    context=(2, 3, 3),
    bias=[-0.5, -0.5],
    boundary_mask_offsets="all",
)
(affinities + fragments).run_blockwise()
"""


@pytest.fixture(scope="module")
def volara(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A command: Python with volara and the plugin, beside packages of this environment.

    Another daisy goes before ours. Packages that both need are not downloaded again.
    `BLOCKWISE_PREDICT_VOLARA_PYTHON` names the Python of an environment that has volara already.
    """
    folder = tmp_path_factory.mktemp("volara")
    python = os.environ.get("BLOCKWISE_PREDICT_VOLARA_PYTHON")
    if python is None:
        python = str(new_environment(folder / "env")[0])
        try:
            pip_install(python, VOLARA)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"{VOLARA} cannot be installed: {error.stderr[-300:]}")
    build = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(folder)]
    subprocess.run([*build, str(ROOT)], check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    pip_install(python, "--no-deps", "--target", folder / "site", wheel)
    return ["env", f"PYTHONPATH={folder / 'site'}", python]


class VolaraJob:
    """A tiny network over a 40 x 36 x 33 volume in 27 blocks, and fragments of what it predicts."""

    def __init__(self, folder: Path, volara: list[str]) -> None:
        self.folder, self.volara = folder, volara
        self.plain = Job(folder)
        self.output = str(folder / "out.zarr" / "affs")
        self.run_dir = default_run_dir(self.output)
        self.config = folder / "affs.yaml"
        self.options = {**self.plain.given, "output": self.output}
        self.config.write_text(yaml.safe_dump(self.options))

    def start(self, script: str = PIPELINE) -> subprocess.Popen[str]:
        # Its workers' processes must find this package in our environment, and not in volara's.
        bridge = self.folder / "python"
        bridge.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} "$@"\n')
        bridge.chmod(0o755)
        return subprocess.Popen(
            [*self.volara, "-c", script, str(self.config), str(bridge), self.output],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self) -> str:
        return finished(self.start())


def finished(process: subprocess.Popen[str]) -> str:
    output = process.communicate(timeout=400)[0]
    assert process.returncode == 0, output
    return output


def bridges(kind: str, process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The processes of our environment that a pipeline has started."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if ["blockwise_predict.run.pipelines.volara_bridge", kind] == child.cmdline()[2:4]:
                found.append(child)
        except (psutil.Error, IndexError):
            continue
    return found


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_fragments_of_volara_follow_affinities(tmp_path: Path, volara: list[str]) -> None:
    job = VolaraJob(tmp_path, volara)
    expected = stored_bytes(job.plain.undisturbed())
    weights = tmp_path / "weights.pt"
    state = {"model": torch.load(weights), "optimizer": MakesFolder(tmp_path / "executed")}
    torch.save(state, weights)
    version = "import importlib.metadata as m; print(m.version('daisy'))"
    daisy = subprocess.run([*volara, "-c", version], capture_output=True, text=True, check=True)
    assert daisy.stdout.startswith("1."), "volara takes daisy 2: docs/pipelines.md says otherwise"
    # The task is given the consent that its configuration cannot hold.
    allowing = PIPELINE.replace("python=python,", "python=python, unsafe_load_pickle=True,")
    process = job.start(allowing)
    until(lambda: blocks_done(job.run_dir) >= 1 and bool(bridges("work", process)), 300)
    bridges("work", process)[0].kill()
    text = finished(process)
    assert "Task affs-blockwise-predict" in text
    assert stored_bytes(job.output) == expected
    assert f"{BLOCKS} blocks: {BLOCKS} complete" in predict("verify", job.output)
    assert read_attributes(job.output)[ATTRIBUTE]["complete"] is True
    labels = zarr.open_array(tmp_path / "fragments.zarr" / "labels", mode="r")
    assert len(np.unique(labels[:])) > BLOCKS


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_pipeline_of_volara_is_resumed(tmp_path: Path, volara: list[str]) -> None:
    job = VolaraJob(tmp_path, volara)
    predict("run", job.config)
    # Nothing is left to do, though volara itself remembers of nothing.
    begun = time.time()
    job.run()
    chunks = [Path(job.output) / name for name in stored_bytes(job.output)]
    assert max(chunk.stat().st_mtime for chunk in chunks) < begun
    # Another model is refused, whatever volara remembers of finished blocks.
    save_network(tmp_path, seed=1)
    process = job.start()
    text = process.communicate(timeout=400)[0]
    assert process.returncode
    assert "weights (sha256): was" in text


def test_both_sides_of_the_bridge(tmp_path: Path) -> None:
    config = tiny_config(
        tmp_path, (20, 18, 17), block_shape="16,16,16", chunk_shape="16,16,16", workers=1
    )
    said: list[dict[str, Any]] = []
    serve_run(config, io.StringIO(""), said.append)
    assert not default_run_dir(config.output).exists()
    with pytest.raises(RunStateError, match="no run is open"):
        serve_blocks(config, number=0, workers=1, requests=io.StringIO(""), send=said.append)
    serve_run(config, io.StringIO("open\n"), said.append)
    first, _, opened = said
    assert (first["begin"], first["shape"]) == ([0, 0, 0], [200, 180, 170])
    assert (first["blocks"], first["block_shape"]) == ([2, 2, 2], [160, 160, 160])
    assert min(first["context_low"]) > 0
    assert opened == {"done": "00"}
    begins = [[z, y, x] for z in (0, 160) for y in (0, 160) for x in (0, 160)]
    lines = [json.dumps({"begin": begin}) + "\n" for begin in begins]
    said.clear()
    serve_blocks(
        config, number=0, workers=1, requests=io.StringIO("".join(lines[:5])), send=said.append
    )
    assert said == [{"ready": True}, *({"done": block} for block in range(5))]
    assert read_attributes(config.output)[ATTRIBUTE]["complete"] is False
    said.clear()
    serve_run(config, io.StringIO("open\n"), said.append)
    assert said[1] == {"done": "f8"}
    serve_blocks(
        config, number=0, workers=1, requests=io.StringIO("".join(lines[5:])), send=said.append
    )
    assert read_attributes(config.output)[ATTRIBUTE]["complete"] is True
    output = str(tmp_path / "peace.zarr" / "prediction")
    options = plan_run(config).plan.config.model_dump(exclude_none=True, mode="json")
    peace = tmp_path / "peace.yaml"
    peace.write_text(yaml.safe_dump({**options, "output": output}))
    predict("run", peace)
    np.testing.assert_array_equal(read_output(config.output), read_output(output))


def test_a_block_that_fails_is_told(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, (20, 18, 17))
    said: list[dict[str, Any]] = []
    serve_run(config, io.StringIO("open\n"), said.append)
    chunk = next(Path(config.input).glob("0*"))
    chunk.write_bytes(b"damaged")
    said.clear()
    serve_blocks(
        config,
        number=0,
        workers=1,
        requests=io.StringIO('{"begin": [0, 0, 0]}\n'),
        send=said.append,
    )
    assert "reading: " in said[1]["error"]
    records = RunDir(default_run_dir(config.output))
    assert "reading: " in records.failures.read()[0].error
    assert "1 failed" in predict("verify", config.output, code=1)
