"""`predict export`: other programs, and `predict run`, get the same numbers from its files."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from blockwise_predict.checkpoint import open_checkpoint
from blockwise_predict.errors import CheckpointError
from tests.support.networks import NETWORKS, save_network
from tests.support.runs import predict, stored_bytes, write_volume

TASK = {"__type__": "AffinitiesTaskConfig", "neighborhood": [[1, 0, 0], [0, 1, 0], [0, 0, -3]]}
# As in a program that has never heard of this package.
RUN_PROGRAM = """
import sys, torch
program = torch.export.load(sys.argv[1]).module()
torch.save([program(x) for x in torch.load(sys.argv[2])], sys.argv[3])
assert not [name for name in sys.modules if name.startswith("blockwise_predict")]
"""


def test_exported_weights_give_the_same_run(tmp_path: Path) -> None:
    weights, architecture = save_network(tmp_path, task=TASK, **NETWORKS["anisotropic"])
    target = tmp_path / "out.safetensors"
    text = predict("export", weights, target, "--architecture", architecture)
    assert open_checkpoint(weights, architecture=architecture).sha256 in text
    rng = np.random.default_rng(0)
    volume = write_volume(tmp_path / "v.zarr", rng.integers(0, 256, (20, 41, 39), np.uint8))
    written = []
    for name, given in {
        "before": (weights, architecture),
        "after": (target, tmp_path / "out.yaml"),
    }.items():
        output = tmp_path / f"{name}.zarr" / "affs"
        predict(
            *("run", "--checkpoint", given[0], "--architecture", given[1]),
            *("--input", volume, "--output", output, "--device", "cpu"),
        )
        written.append(stored_bytes(str(output)))
    assert written[0] == written[1] != {}
    text = predict("export", weights, target, "--architecture", architecture, code=2)
    assert f"{target} exists" in text
    predict("export", weights, target, "--architecture", architecture, "--overwrite")


def test_an_exported_program_gives_the_same_run(tmp_path: Path) -> None:
    """It is recognised as what it was, though its sizes are not fixed."""
    weights, architecture = save_network(tmp_path, task=TASK, **NETWORKS["anisotropic"])
    predict("export", weights, tmp_path / "net.pt2", "--architecture", architecture)
    rng = np.random.default_rng(0)
    volume = write_volume(tmp_path / "v.zarr", rng.integers(0, 256, (20, 41, 39), np.uint8))
    written = []
    for checkpoint in ([weights, "--architecture", architecture], [tmp_path / "net.pt2"]):
        output = tmp_path / f"{len(checkpoint)}.zarr" / "affs"
        predict(
            *("run", "--checkpoint", *checkpoint, "--normalize", "auto"),
            *("--input", volume, "--output", output, "--device", "cpu"),
        )
        written.append(stored_bytes(str(output)))
    assert written[0] == written[1] != {}
    names = ("aff_1_0_0", "aff_0_1_0", "aff_0_0_-3")
    assert open_checkpoint(tmp_path / "net.pt2").channel_names == names
    for content, problem in {
        b'["a", "a", "b"]': "must list the names of the channels",
        b'["a", 1, "b"]': "must list the names of the channels",
        b'["a", "b"]': "name 2 channels",
        b"[" * 2000: "cannot be read",
        b" " * (1 << 21): "claims 2097152 bytes",
    }.items():
        with pytest.raises(CheckpointError, match=problem):
            open_checkpoint(renamed(tmp_path / "net.pt2", content))


def renamed(program: Path, content: bytes) -> Path:
    """A copy of a program with another record of its channels' names."""
    changed = program.with_name("renamed.pt2")
    with zipfile.ZipFile(program) as source, zipfile.ZipFile(changed, "w") as target:
        for record in source.infolist():
            is_names = record.filename.endswith("/extra/channel_names.json")
            target.writestr(record, content if is_names else source.read(record))
    return changed


def test_an_exported_program_needs_torch_alone(tmp_path: Path) -> None:
    weights, architecture = save_network(tmp_path, task=TASK, **NETWORKS["anisotropic"])
    text = predict("export", weights, tmp_path / "net.pt2", "--architecture", architecture)
    assert "10,26,26 + n * 2,4,4" in text
    inputs = [torch.rand(1, 1, 10, 26, 26), torch.rand(2, 1, 14, 26, 38)]
    torch.save(inputs, tmp_path / "in.pt")
    files = [str(tmp_path / name) for name in ("net.pt2", "in.pt", "out.pt")]
    subprocess.run(
        [sys.executable, "-I", "-c", RUN_PROGRAM, *files],
        cwd=tmp_path,
        check=True,
        timeout=240,
    )
    network = open_checkpoint(weights, architecture=architecture).build()
    for x, found in zip(inputs, torch.load(tmp_path / "out.pt"), strict=True):
        np.testing.assert_allclose(found.detach(), network(x), atol=1e-5, rtol=0)
