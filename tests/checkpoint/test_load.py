"""Checkpoints of every kind, found and read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from safetensors.torch import save_file
from torch import nn

from blockwise_predict.checkpoint import Head, TrainedModel, load_checkpoint
from tests.support.dacapo_runs import ARCHITECTURE, TASK, dacapo_model, plain, write_run, write_yaml
from tests.support.shared import shared_path


def test_a_run_folder_gives_its_latest_iteration(tmp_path: Path) -> None:
    run = write_run(tmp_path, (900, 1000, 100))
    model = load_checkpoint(run)
    assert (model.run, model.iteration) == ("net", 1000)
    assert model.path == str(run / "checkpoints" / "iterations" / "1000")
    assert load_checkpoint(run, iteration=100).iteration == 100
    assert model.head == Head("affinities", 1, 2, "Sigmoid")
    assert model.channel_names == ("aff_1_0", "aff_0_1")
    assert model.output_range == (0, 1)
    assert model.architecture.eval_shape_increase == (8, 8)
    assert model.num_parameters == sum(p.numel() for p in dacapo_model().parameters())
    described = model.architecture_dict()
    assert described == json.loads(json.dumps(described))
    assert described["downsample_factors"] == [[2, 2]]


def test_an_iteration_file_finds_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path)
    file = run / "checkpoints" / "iterations" / "100"
    assert load_checkpoint(file).run == "net"
    assert load_checkpoint(file).iteration == 100
    monkeypatch.chdir(run)
    assert load_checkpoint(Path("checkpoints/iterations/100")).run == "net"
    assert load_checkpoint(".").run == "net"


def test_the_network_is_dacapos(tmp_path: Path) -> None:
    built = load_checkpoint(write_run(tmp_path)).build()
    assert not built.training
    x = torch.rand(2, 1, 24, 20)
    with torch.inference_mode():
        expected = torch.sigmoid(dacapo_model().chain(x))
        torch.testing.assert_close(built(x), expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    "form",
    [
        {"architecture_config": ARCHITECTURE, "task_config": TASK},
        {"architecture": plain(ARCHITECTURE), "task": plain(TASK)},
    ],
)
@pytest.mark.parametrize("suffix", ["pt", "pth", "safetensors"])
def test_bare_weights_with_an_architecture(
    suffix: str, form: dict[str, Any], tmp_path: Path
) -> None:
    file, state = tmp_path / f"weights.{suffix}", dacapo_model().state_dict()
    if suffix == "safetensors":
        save_file({key: value.clone() for key, value in state.items()}, file)
    else:
        torch.save(state, file)
    model = load_checkpoint(file, architecture=write_yaml(tmp_path, form))
    assert (model.run, model.iteration) == (None, None)
    assert model.sha256 == load_checkpoint(write_run(tmp_path / "base")).sha256


@pytest.mark.parametrize(
    "prefix", ["", "unet.", "module.unet.", "_orig_mod.", "architecture.unet."]
)
def test_bare_weights_without_a_head(prefix: str, tmp_path: Path) -> None:
    state = dacapo_model().architecture.unet.state_dict()
    torch.save({prefix + key: value for key, value in state.items()}, tmp_path / "weights.pt")
    model = load_checkpoint(
        tmp_path / "weights.pt", architecture=write_yaml(tmp_path, plain(ARCHITECTURE))
    )
    assert model.head is None
    assert model.channel_names == ("channel_0", "channel_1", "channel_2")
    assert model.output_range is None
    assert model.build()(torch.rand(1, 1, 20, 20)).shape == (1, 3, 4, 4)


def test_newer_keys_of_a_super_resolving_network(tmp_path: Path) -> None:
    model = dacapo_model(upsample_factors=[(2, 2)])
    architecture = {**ARCHITECTURE, "upsample_factors": [(2, 2)]}
    document = write_yaml(tmp_path, {"architecture": architecture, "task": TASK})
    # Newer versions put the bare module into the chain.
    chain = nn.Sequential(model.architecture.unet, model.prediction_head).state_dict()
    torch.save({f"chain.{key}": value for key, value in chain.items()}, tmp_path / "new.pt")
    torch.save(model.state_dict(), tmp_path / "old.pt")
    new, old = (
        load_checkpoint(tmp_path / name, architecture=document) for name in ("new.pt", "old.pt")
    )
    assert new.sha256 == old.sha256
    assert new.shapes.scale == (2, 2)


def test_the_hash_is_of_the_content(tmp_path: Path) -> None:
    document = write_yaml(tmp_path, plain(ARCHITECTURE))
    state = dacapo_model().architecture.state_dict()
    hashes = []
    for number in range(3):
        file = tmp_path / f"{number}.pt"
        if number == 2:
            next(iter(state.values())).view(-1)[0] += 1e-6
        torch.save(dict(reversed(state.items())) if number else state, file)
        hashes.append(load_checkpoint(file, architecture=document).sha256)
    assert hashes[0] == hashes[1] != hashes[2]
    assert len(hashes[0]) == 64


def test_half_precision_weights_are_run_in_float32(tmp_path: Path) -> None:
    state = dacapo_model().architecture.state_dict()
    torch.save({key: value.bfloat16() for key, value in state.items()}, tmp_path / "w.pt")
    model = load_checkpoint(
        tmp_path / "w.pt", architecture=write_yaml(tmp_path, plain(ARCHITECTURE))
    )
    assert model.build()(torch.rand(1, 1, 20, 20)).dtype == torch.float32
    assert model.sha256


@pytest.mark.parametrize(
    ("task", "head", "names"),
    [
        (
            {"__type__": "OneHotTaskConfig", "classes": ["bg", "cell"]},
            Head("one_hot", 3, 2, None),
            ("bg", "cell"),
        ),
        (
            {"__type__": "OneHotTaskConfig", "classes": ["bg", "cell"], "kernel_size": 1},
            Head("one_hot", 1, 2, None),
            ("bg", "cell"),
        ),
        (
            {"__type__": "DistanceTaskConfig", "channels": ["ecs", "pm"]},
            Head("distance", 1, 2, None),
            ("ecs", "pm"),
        ),
        (
            {"__type__": "InnerDistanceTaskConfig", "channels": ["ecs", "pm"]},
            Head("inner_distance", 1, 2, None),
            ("ecs", "pm"),
        ),
        (
            {"__type__": "HotDistanceTaskConfig", "channels": ["ecs", "pm"], "kernel_size": None},
            Head("hot_distance", 3, 4, None),
            ("ecs", "pm", "ecs_distance", "pm_distance"),
        ),
        (
            {"__type__": "PretrainedTaskConfig", "weights": "w", "sub_task_config": TASK},
            Head("affinities", 1, 2, "Sigmoid"),
            ("aff_1_0", "aff_0_1"),
        ),
    ],
)
def test_heads_are_those_of_dacapos_tasks(
    task: dict[str, Any], head: Head, names: tuple[str, ...], tmp_path: Path
) -> None:
    reference = dacapo_model(nn.Conv2d(3, head.channels, head.kernel_size))
    torch.save(reference.state_dict(), tmp_path / "w.pt")
    document = write_yaml(tmp_path, {"architecture": ARCHITECTURE, "task": task})
    model = load_checkpoint(tmp_path / "w.pt", architecture=document)
    assert (model.head, model.channel_names) == (head, names)
    x = torch.rand(1, 1, 28, 28)
    with torch.inference_mode():
        expected = reference.chain(x)
        if head.activation:
            expected = torch.sigmoid(expected)
        torch.testing.assert_close(model.build()(x), expected, rtol=0, atol=0)
    assert model.shapes.output_shape((28, 28)) == tuple(expected.shape[2:])
    assert model.output_range == ((0, 1) if head.activation else None)


def both_key_styles() -> list[TrainedModel]:
    base = shared_path("data/dacapo")
    return [
        load_checkpoint(base / "flyem_affs"),
        load_checkpoint(
            base / "flyem_affs_newer_keys.pt", architecture=base / "configs/runs/flyem_affs.yaml"
        ),
    ]


def test_the_reference_predictions_come_out_of_both_key_styles() -> None:
    expected_file = np.load(shared_path("data/flyem-medulla-sample1-expected.npz"))
    raw = zarr.open_array(shared_path("data/flyem-medulla.zarr") / "sample1" / "raw", mode="r")
    old, new = both_key_styles()
    assert (old.run, old.iteration) == ("flyem_affs", 4600)
    assert old.sha256 == new.sha256
    names = [name for name in expected_file if name.endswith("_begin_voxels")]
    assert names
    begin = [int(b) for b in expected_file[names[0]]]
    expected = expected_file[names[0].removesuffix("_begin_voxels")][:, :24, :24, :24]
    # The context in voxels, and output voxels at multiples of the period of the input's origin.
    low = [context // 2 for context in old.shapes.context]
    phase = [b % p for b, p in zip(begin, old.shapes.period, strict=True)]
    first = [b - p - c for b, p, c in zip(begin, phase, low, strict=True)]
    size = [s + c for s, c in zip((28, 28, 28), old.shapes.context, strict=True)]
    crop = raw[tuple(slice(b, b + s) for b, s in zip(first, size, strict=True))]
    tile = torch.from_numpy(np.asarray(crop, np.float32) / 255)[None, None]
    for model in (old, new):
        with torch.inference_mode():
            output = model.build()(tile)[0].numpy()
        inside = output[(slice(None), *(slice(p, p + 24) for p in phase))]
        np.testing.assert_allclose(inside, expected, rtol=0, atol=1e-5)
