"""Ensembles of checkpoints: the mean of their predictions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import blockwise_predict as bp
from blockwise_predict.engine.settings import PrecisionChoice
from blockwise_predict.worker import setup
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
    planned = " ".join(predict("plan", *command[1:]).split())
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


def test_a_precision_is_tried_on_every_member_and_all_weights_take_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = np.random.default_rng(0).integers(0, 256, (21, 23, 19), np.uint8)
    members = (
        save(tmp_path, "one", task=ONE_HOT),
        save(tmp_path, "other", 1, task=ONE_HOT, **DEEPER),
    )
    opened = [bp.open_checkpoint(weights, architecture=file) for weights, file in members]
    volume, output = write_volume(tmp_path / "raw.zarr", raw), f"{tmp_path}/out.zarr/out"
    planned = bp.plan(opened, volume, output, device="cpu", memory="1GiB")
    size = sum(tensor.nbytes for model in opened for tensor in model.weights.values())
    assert planned.opened.weight_bytes == size
    assert [each.weight_bytes for each in planned.opened.each] == [size, size]
    assert "auto: one that is accurate enough for each checkpoint" in " ".join(
        repr(planned).split()
    )
    tried: dict[str, list[Any]] = {}

    def choose(predict: Any, _parts: Any, faster: Any) -> PrecisionChoice:
        tried.update({precision: predict(precision) for precision in ("float32", *faster)})
        return PrecisionChoice("float32")

    monkeypatch.setattr(setup, "choose_precision", choose)
    monkeypatch.setattr(setup, "faster_precisions", lambda *_: ("bfloat16",))
    setup.decide_precision(planned.plan, planned.opened)
    assert [*tried] == ["float32", "bfloat16"]
    # Voxels are not the same ones: each member has its own lattice.
    assert all(len(values) == 2 for values in tried.values())
    monkeypatch.setattr(type(opened[1]), "float32_only", property(lambda m: m is opened[1]))
    tried.clear()
    setup.decide_precision(planned.plan, planned.opened)
    assert [*tried] == ["float32"]


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
    twice = [*command[:4], *2 * ["--checkpoint", one[0], "--architecture", one[1]]]
    printed = predict("plan", *twice, code=2)
    assert f"{one[0]} and {one[0]} hold the same weights, which would count twice" in printed


def test_an_empty_list_is_refused() -> None:
    with pytest.raises(bp.ConfigError, match="the list is empty"):
        bp.predict([], np.zeros((20, 20, 20), np.uint8))
