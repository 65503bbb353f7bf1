"""Ensembles of checkpoints: the mean of their predictions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import blockwise_predict as bp
from tests.support.networks import save_network
from tests.support.runs import predict, read_output, write_volume

ONE_HOT = {"__type__": "OneHotTaskConfig", "name": "t", "classes": ["a", "b"]}
DEEPER = {"downsample_factors": [[2, 2, 2], [2, 2, 2]], "input_shape": [44, 44, 44]}


def save(folder: Path, name: str, seed: int = 0, **network: Any) -> tuple[Path, Path]:
    (folder / name).mkdir()
    return save_network(folder / name, seed, **network)


def test_a_run_is_the_mean_of_its_checkpoints_alone(tmp_path: Path) -> None:
    one, other = (
        save(tmp_path, "one", task=ONE_HOT),
        save(tmp_path, "other", 1, task=ONE_HOT, **DEEPER),
    )
    raw = np.random.default_rng(0).integers(0, 256, (21, 23, 19), np.uint8)
    volume = write_volume(tmp_path / "raw.zarr", raw)
    output = f"{tmp_path}/out.zarr/out"
    alone = [
        bp.predict(weights, raw, architecture=file, precision="float32", progress=False).data
        for weights, file in (one, other)
    ]
    assert np.abs(alone[0] - alone[1]).max() > 0.1
    command = [
        *("run", "--checkpoint", one[0], "--architecture", one[1]),
        *("--checkpoint", other[0], "--architecture", other[1]),
        *("--input", volume, "--output", output, "--device", "cpu", "--precision", "float32"),
        *("--roi", "[30:,0:170,10:190]", "--chunk-shape", "8,9,10"),
    ]
    planned = predict("plan", *command[1:])
    assert "2 checkpoints" in planned
    assert str(other[0]) in planned
    predict(*command)
    expected = np.mean(alone, axis=0)[:, 3:, :17, 1:]
    np.testing.assert_allclose(read_output(output), expected, atol=1e-5 * np.abs(expected).max())

    attributes = json.loads(Path(output, "zarr.json").read_text())["attributes"]
    record = attributes["blockwise_predict"]
    digests = {record["checkpoint"]["sha256"], record["ensemble"][0]["sha256"]}
    assert digests == {
        bp.open_checkpoint(weights, architecture=file).sha256 for weights, file in (one, other)
    }
    predict(*command)
    changed = save(tmp_path, "changed", 2, task=ONE_HOT, **DEEPER)
    changed[0].replace(other[0])
    assert "weights 2 (sha256): was" in predict(*command, code=2)


def test_in_memory_a_list_of_models_is_averaged(tmp_path: Path) -> None:
    raw = np.random.default_rng(0).integers(0, 256, (13, 14, 12), np.uint8)
    options = {"precision": "float32", "progress": False, "augment": "flips"}
    opened = [
        bp.open_checkpoint(weights, architecture=file)
        for weights, file in (save(tmp_path, str(n), n, task=ONE_HOT) for n in range(3))
    ]
    mean = bp.predict(opened, raw, **options).data
    alone = [bp.predict(model, raw, **options).data for model in opened]
    np.testing.assert_allclose(mean, np.mean(alone, axis=0), atol=1e-5 * np.abs(mean).max())


def test_members_must_agree(tmp_path: Path) -> None:
    one, other = save(tmp_path, "one"), save(tmp_path, "other", fmaps_out=3)
    command = ["--input", "raw.zarr/raw", "--output", f"{tmp_path}/out.zarr/out"]
    for weights, file in (one, other):
        command += ["--checkpoint", weights, "--architecture", file]
    printed = predict("plan", *command, code=2)
    assert "differ in their channels, channel_0, channel_1 and channel_0, channel_1, channel_2" in (
        printed
    )
    printed = predict("plan", *command, "--architecture", other[1], code=2)
    assert "3 files are given, but 2 checkpoints" in printed


def test_an_empty_list_is_refused() -> None:
    with pytest.raises(bp.ConfigError, match="the list is empty"):
        bp.predict([], np.zeros((20, 20, 20), np.uint8))
