"""Networks that a function of the user's builds: code, which only the command line can name."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from blockwise_predict.config.model import load_config
from blockwise_predict.run.pipelines.volara_bridge import serve_blocks, serve_run
from tests.support.programs import KNOWN, Flat, lively
from tests.support.runs import predict, read_output, write_volume

CODE = """
import torch
from tests.support.programs import Flat

def build(checkpoint):
    network = Flat()
    network.load_state_dict(torch.load(checkpoint))
    return network

def fail():
    raise ValueError("no such run")

def text():
    return "a network"
"""


class Project:
    """A factory with weights, a volume, and the options that name them."""

    def __init__(self, folder: Path) -> None:
        self.network = lively(Flat())
        self.factory = f"{folder}/networks.py:build"
        (folder / "networks.py").write_text(CODE)
        torch.save(self.network.state_dict(), folder / "weights.pt")
        self.data = np.random.default_rng(0).integers(0, 256, (30, 27), np.uint8)
        self.output = f"{folder}/out.zarr/out"
        self.settings = {
            "checkpoint": f"{folder}/weights.pt",
            "input": write_volume(folder / "volume.zarr", self.data, (10, 10)),
            "output": self.output,
            "device": "cpu",
            "precision": "float32",
        }

    @property
    def options(self) -> list[str]:
        return [f"--{key}={value}" for key, value in self.settings.items()]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Project(tmp_path)


def test_a_factorys_network_is_predicted_exactly(project: Project) -> None:
    declared = ("--activation", "none", "--normalize", "auto")
    chunks = ("--chunk-shape", "16,16")
    predict("run", *project.options, "--factory", project.factory, *chunks, *declared)
    expected = KNOWN["2-D"].one_pass(project.network, project.data[None].astype(np.float32) / 255)
    np.testing.assert_allclose(read_output(project.output), expected, atol=1e-5)
    # No record says so: each command that needs the network is told.
    assert "--factory" in predict("verify", project.output, "--sample", "1", code=1)
    predict("verify", project.output, "--sample", "1", "--factory", project.factory)


def test_workers_of_an_open_run_are_given_the_factory_again(project: Project) -> None:
    declared = {"activation": "none", "normalize": "auto", "factory": project.factory}
    config = load_config({**project.settings, **declared})
    said: list[dict[str, Any]] = []
    serve_run(config, io.StringIO("open\n"), said.append)
    block = io.StringIO('{"begin": [0, 0]}\n')
    serve_blocks(config, number=0, workers=1, requests=block, send=said.append)
    assert said[2:] == [{"ready": True}, {"done": 0}]
    expected = KNOWN["2-D"].one_pass(project.network, project.data[None].astype(np.float32) / 255)
    np.testing.assert_allclose(read_output(project.output), expected, atol=1e-5)


def test_a_yaml_file_cannot_name_a_factory(project: Project, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump({**project.settings, "factory": project.factory}))
    said = predict("run", file, code=2)
    assert "factory: a file cannot allow that" in said
    assert not (tmp_path / "out.zarr").exists()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("fail", "ValueError: no such run in "),
        ("text", "returned a str, not a torch.nn.Module"),
        ("other", "has no function 'other'"),
    ],
)
def test_what_a_factory_gets_wrong_is_a_message(
    name: str, reason: str, project: Project, tmp_path: Path
) -> None:
    factory = f"{tmp_path}/networks.py:{name}"
    assert reason in predict("run", *project.options, "--factory", factory, code=2)
