"""Some of a network's channels, and arrays for each of them or for groups of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from funlib.geometry import Roi

import blockwise_predict as bp
from blockwise_predict.config.model import load_config
from blockwise_predict.io import open_array, open_output, read_attributes
from blockwise_predict.plan.estimate import estimate
from blockwise_predict.plan.make import make_plan
from blockwise_predict.records.provenance import ATTRIBUTE
from tests.support.networks import save_network
from tests.support.runs import predict, read_output
from tests.support.two_tasks import TwoTasks

SMALL = ("--roi", "[:160,:160,:160]")
EXACT: dict[str, Any] = {"device": "cpu", "precision": "float32", "progress": False}


@pytest.fixture
def job(tmp_path: Path) -> TwoTasks:
    return TwoTasks(tmp_path)


def opened(job: TwoTasks) -> Any:
    return bp.open_checkpoint(
        job.folder / "weights.pt", architecture=job.folder / "architecture.yaml"
    )


def test_named_arrays_are_one_run_that_is_verified_and_extended(job: TwoTasks) -> None:
    split = ("--split", "shape=lsds_0,mixed=4,aff_0_1_0", "--output-dtype", "shape=uint8")
    run = job.arguments("out.zarr/s", *split, "--output-range", "shape=-1,1")
    predict(*run, *SMALL)
    told = predict(*run, "--roi", "[:320,:160,:160]")
    assert "1 finished blocks are kept" in told
    assert "2 blocks: 2 complete" in predict("verify", job.folder / "out.zarr/s", "--sample", "2")
    roi = Roi((0, 0, 0), (32, 16, 16))
    expected = np.concatenate([job.expected(name, roi) for name in ("affs", "lsds")])
    mixed, shape = (job.array("out.zarr/s", name) for name in ("mixed", "shape"))
    np.testing.assert_allclose(read_output(mixed), expected[[4, 1]], rtol=0, atol=1e-5)
    np.testing.assert_allclose(read_output(shape) / 127.5 - 1, expected[[3]], rtol=0, atol=0.005)
    assert open_output(mixed).channel_names == ("lsds_1", "aff_0_1_0")
    assert open_array(shape).channels == 1
    record = read_attributes(shape)[ATTRIBUTE]
    assert record["checkpoint"]["sha256"] == opened(job).sha256
    assert record["config"]["split"] == {
        "shape": ["lsds_0"],
        "mixed": ["4", "aff_0_1_0"],
    }
    told = predict(*job.arguments("out.zarr/s", *SMALL, "--split", "shape=lsds_0"), code=2)
    assert "channels: was {'shape': ['lsds_0'], 'mixed': ['lsds_1', 'aff_0_1_0']}, is now" in told


def test_each_channel_and_a_plan_of_what_they_cost(job: TwoTasks) -> None:
    options = ("--split", "each", "--channels", "affs", "--output-dtype", "aff_0_0_1=uint8")
    told = predict("plan", *job.arguments("out.zarr/p", *SMALL, *options)[1:])
    page = " ".join(told.split())
    assert f" output {job.array('out.zarr/p', 'aff_0_0_1')}: zarr3, 1 channels " in page
    assert " selected 3 of 5 channels " in page
    assert " bytes out 36 KiB " in page
    told = predict(*job.arguments("out.zarr/p", "--channels", "affs,mito"), code=2)
    assert "has no such channel; its channels are aff_1_0_0, aff_0_1_0, aff_0_0_1, lsds_0" in told
    assert not (job.folder / "out.zarr").exists()


def test_the_plan_has_less_arithmetic(job: TwoTasks) -> None:
    costs = []
    for choice in ({}, {"channels": "3,4"}):
        names = [str(word).removeprefix("--").replace("-", "_") for word in job.options[::2]]
        given = dict(zip(names, map(str, job.options[1::2]), strict=True))
        config = load_config({**given, "output": f"{job.folder}/o.zarr/p", **choice})
        made = make_plan(config)
        json.dumps(made.plan.identity())
        costs.append(estimate(made.plan, made.opened.model))
    assert costs[1].flops < costs[0].flops
    assert costs[1].bytes_out == costs[0].bytes_out * 2 // 5


@pytest.mark.parametrize("augment", ["in-plane", "flips"])
def test_augmented_channels_need_no_others(augment: str, job: TwoTasks, tmp_path: Path) -> None:
    task = {
        "__type__": "AffinitiesTaskConfig",
        "name": "affs",
        "neighborhood": [[0, 2, 0], [0, 0, 2], [1, 0, 0]],
    }
    weights, architecture = save_network(tmp_path, task=task)
    model = bp.open_checkpoint(weights, architecture=architecture)
    options = {**EXACT, "augment": augment, "roi": "[:8,:8,:8]", "block_shape": "8,8,8"}
    raw = job.raw[:24, :24, :24]
    every = bp.predict(model, raw, **options)
    for numbers in ([1], [2, 0], [0, 1]):
        some = bp.predict(model, raw, channels=numbers, **options)
        np.testing.assert_allclose(some.data, every.data[numbers], rtol=0, atol=1e-6)


def test_averaged_checkpoints_agree_in_the_chosen_channels(tmp_path: Path) -> None:
    models, alone = [], []
    raw = np.random.default_rng(0).integers(0, 256, (20, 20, 20), np.uint8)
    options = {**EXACT, "roi": "[:8,:8,:8]", "block_shape": "8,8,8"}
    for number, classes in enumerate((["mito", "er"], ["er", "nucleus", "mito"])):
        folder = tmp_path / str(number)
        folder.mkdir()
        task = {"__type__": "OneHotTaskConfig", "name": "t", "classes": classes}
        weights, architecture = save_network(folder, number, task)
        models.append(bp.open_checkpoint(weights, architecture=architecture))
        alone.append(bp.predict(models[-1], raw, **options).data[classes.index("mito")])
    with pytest.raises(bp.CheckpointError, match="they differ in their channels"):
        bp.predict(models, raw, **options)
    mean = bp.predict(models, raw, channels=["mito"], **options)
    np.testing.assert_allclose(mean.data[0], np.mean(alone, axis=0), rtol=0, atol=1e-6)


def test_in_memory_arrays_are_named(job: TwoTasks) -> None:
    options = {**EXACT, "roi": "[:8,:8,:8]", "block_shape": "8,8,8"}
    raw = job.raw[:20, :20, :20]
    every = bp.predict_outputs(opened(job), raw, **options)
    found = bp.predict_outputs(opened(job), raw, split={"a": [4], "b": ["affs"]}, **options)
    np.testing.assert_array_max_ulp(found["a"].data, every["lsds"].data[1:], 2)
    np.testing.assert_array_max_ulp(found["b"].data, every["affs"].data, 2)
