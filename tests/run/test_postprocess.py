"""Masks and labels instead of values: `--postprocess`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import blockwise_predict as bp
from blockwise_predict.engine.encode import encode
from blockwise_predict.engine.values import Encoding
from blockwise_predict.io import open_output, read_attributes
from blockwise_predict.io.downsampled import listed_levels
from blockwise_predict.records.provenance import ATTRIBUTE
from blockwise_predict.worker.downsample import downsample
from tests.support.networks import NETWORKS, save_network
from tests.support.runs import predict, read_output, write_volume
from tests.support.two_tasks import TwoTasks

ODD = ("--roi", "[20:250,:190,10:]")
EXACT: dict[str, Any] = {"device": "cpu", "precision": "float32", "progress": False}


def opened(job: TwoTasks) -> Any:
    files = [job.folder / "weights.pt", job.folder / "architecture.yaml"]
    return bp.open_checkpoint(files[0], architecture=files[1])


def windows(group: Path) -> list[tuple[float, float]]:
    """What `omero` of a group shows as black and white, for each channel."""
    image = json.loads((group / "zarr.json").read_text())["attributes"]["ome"]
    found = [channel["window"] for channel in image["omero"]["channels"]]
    return [(window["start"], window["end"]) for window in found]


def test_masks_and_labels_of_several_outputs_with_levels(tmp_path: Path) -> None:
    job = TwoTasks(tmp_path)
    predict(*job.arguments("values.zarr/p", *ODD))
    affs, lsds = (read_output(job.array("values.zarr/p", name)) for name in ("affs", "lsds"))
    threshold = float(np.median(lsds))
    rule = f"affs=argmax,lsds=threshold:{threshold!r}"
    predict(*job.arguments("out.zarr/p", *ODD, "--postprocess", rule, "--pyramid"))
    label, mask = (job.array("out.zarr/p", name) for name in ("affs", "lsds"))
    expected = {mask: lsds >= threshold, label: affs.argmax(axis=0)[None]}
    for path, values in expected.items():
        stored = read_output(path)
        assert stored.dtype == np.uint8
        assert np.unique(stored).size > 1
        np.testing.assert_array_equal(stored, values)
        ((location, level),) = listed_levels(path)
        assert level.method == "mode"
        above = downsample(stored, level.factors, "mode")
        np.testing.assert_array_equal(read_output(location), above)
    assert open_output(label).channel_names == ("label",)
    made, classes = read_attributes(label), ["aff_1_0_0", "aff_0_1_0", "aff_0_0_1"]
    assert made["classes"] == made[ATTRIBUTE]["classes"] == classes
    assert windows(tmp_path / "out.zarr/p") == [(0, 2)]

    other = rule.replace("argmax", "threshold:0.5")
    told = predict(*job.arguments("out.zarr/p", *ODD, "--postprocess", other), code=2)
    assert "postprocess: was {'affs': 'argmax', 'lsds': 'threshold:" in told
    assert "8 complete" in predict("verify", tmp_path / "out.zarr/p", "--sample", "2")
    # Chunks of other places decode, and are wrong.
    shutil.copy(Path(label) / "c/0/0/0/0", Path(label) / "c/0/0/0/1")
    shutil.copy(Path(mask) / "c/0/0/0/0", Path(mask) / "c/0/0/1/0")
    told = predict("verify", tmp_path / "out.zarr/p", "--sample", "8", code=1)
    assert "of argmax, " in told
    assert "where the network's values leave no doubt" in told
    assert "2 different" in told


@pytest.mark.parametrize("output", ["out.n5/labels", "out.zarr/labels"])
def test_labels_of_chosen_channels_of_slices(output: str, tmp_path: Path) -> None:
    task = {"__type__": "OneHotTaskConfig", "name": "t", "classes": ["background", "mito", "er"]}
    weights, architecture = save_network(tmp_path, 1, task=task, **NETWORKS["2-D"])
    raw = np.random.default_rng(1).integers(0, 256, (3, 50, 43), np.uint8)
    options = {"roi": "[10:30,70:430,:390]", "channels": ["er", "background"]}
    values = bp.predict(
        bp.open_checkpoint(weights, architecture=architecture),
        raw,
        voxel_size=(10, 10, 10),
        **options,
        **EXACT,
    )
    labels = values.data.argmax(axis=0)[None]
    assert 0.02 < labels.mean() < 0.98
    container = write_volume(tmp_path / "raw.zarr", raw)
    predict(
        *("run", "--checkpoint", weights, "--architecture", architecture, "--input", container),
        *("--output", tmp_path / output, "--device", "cpu", "--precision", "float32"),
        *("--roi", options["roi"], "--channels", "er,background", "--postprocess", "argmax"),
    )
    stored = open_output(tmp_path / output)
    np.testing.assert_array_equal(read_output(str(tmp_path / output)), labels)
    assert (stored.dtype, stored.channel_names) == (np.uint8, ("label",))
    assert read_attributes(tmp_path / output)["classes"] == ["er", "background"]
    assert bp.open_array(tmp_path / output).channels == 1


def test_decisions_are_made_on_means(tmp_path: Path) -> None:
    options = {"augment": "flips", "augment_channels": "scalars"}
    weights, architecture = save_network(tmp_path, num_fmaps=3)
    raw = np.random.default_rng(2).integers(0, 256, (18, 15, 16), np.uint8)
    model = bp.open_checkpoint(weights, architecture=architecture)
    values = bp.predict(model, raw, **options, **EXACT).data
    threshold = float(np.median(values))
    rules = {f"threshold:{threshold!r}": values >= threshold, "argmax": values.argmax(axis=0)[None]}
    for rule, expected in rules.items():
        found = bp.predict(model, raw, postprocess=rule, **options, **EXACT)
        np.testing.assert_array_equal(found.data, expected)
        assert 0.02 < found.data.mean() < 0.98
    assert found.channel_names == ("label",)
    assert found.classes == ("channel_0", "channel_1")


def test_the_plan_tells_what_is_stored(tmp_path: Path) -> None:
    job = TwoTasks(tmp_path)
    rules = {"affs": "argmax", "lsds": "threshold:0.25"}
    options = {"roi": "[:160,:160,:160]", "device": "cpu"}
    plan = bp.plan(opened(job), job.input, f"{tmp_path}/o.zarr/p", postprocess=rules, **options)
    page = " ".join(repr(plan).split())
    largest = "uint8, the channel with the largest value: 0 aff_1_0_0, 1 aff_0_1_0, 2 aff_0_0_1"
    assert f" output values {largest} " in page
    assert " output values uint8, 1 where the value is at least 0.25, else 0 " in page
    assert " bytes out 12 KiB before compression" in page


def test_distances_after_a_tanh_need_no_range(tmp_path: Path) -> None:
    job = TwoTasks(tmp_path)
    options = {"channels": "lsds", "roi": "[:16,:15,:14]", **EXACT}
    model = opened(job)
    values = bp.predict(model, job.raw, **options).data
    stored = bp.predict(model, job.raw, output_dtype="uint8", **options).data
    np.testing.assert_allclose(stored / 127.5 - 1, values, rtol=0, atol=0.5 / 127.5 + 1e-6)
    bounds = torch.tensor([-1.0, 0.0, 1.0])
    assert encode(bounds, Encoding("uint8", (-1.0, 1.0))).data.tolist() == [0, 128, 255]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"postprocess": "argmax", "split": "each"},
            "--postprocess aff_1_0_0=argmax: there is one channel, aff_1_0_0 of .*, so all labels",
        ),
        (
            {"postprocess": "affs=threshold:127"},
            "threshold:127: the values of .* are between 0 and 1 after Sigmoid, so the mask would ",
        ),
        ({"postprocess": "lsds=threshold:-1"}, "-1 and 1 after Tanh, so the mask would be 1"),
        ({"postprocess": "mito=argmax"}, "--postprocess mito: .* has no such output"),
    ],
)
def test_decisions_that_are_the_same_everywhere_are_refused(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    job = TwoTasks(tmp_path)
    model = opened(job)
    with pytest.raises(bp.ConfigError, match=message):
        bp.predict_outputs(model, job.raw, **options, **EXACT)
