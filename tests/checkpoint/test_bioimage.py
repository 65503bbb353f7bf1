"""bioimage.io packages, written by bioimageio.spec."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from blockwise_predict.checkpoint import open_checkpoint
from blockwise_predict.checkpoint.packages.processing import (
    NotARuleError,
    activation_rule,
    normalization_rule,
    scale_and_shift,
)
from blockwise_predict.engine.values import Normalization
from blockwise_predict.errors import CheckpointError
from tests.support.shared import ROOT

PACKAGES = ROOT / "tests" / "data" / "bioimage"
Change = Callable[[dict[str, Any]], None]


def changed(folder: Path, version: str, change: Change = lambda _: None) -> Path:
    """A copy of a package with another description."""
    package = folder / version
    shutil.copytree(PACKAGES / version, package)
    description = yaml.safe_load((package / "rdf.yaml").read_text())
    change(description)
    (package / "rdf.yaml").write_text(yaml.safe_dump(description))
    return package


@pytest.mark.parametrize("version", ["v0_4", "v0_5"])
def test_a_package_states_what_a_run_needs(version: str) -> None:
    model = open_checkpoint(PACKAGES / version)
    assert model.undeclared == ()
    assert model.activation == "sigmoid"
    assert model.normalization is not None
    rule = Normalization.parse(model.normalization, "uint8")
    assert (rule.scale, rule.shift) == pytest.approx((2 / 255, -1), rel=1e-7)
    assert model.record["authors"] == "An Author"
    assert "reproduced to" in model.record["test tensors"]
    raw = np.load(PACKAGES / version / "input.npy")
    output = model.build()(torch.from_numpy(rule.apply(raw)))
    np.testing.assert_allclose(output, np.load(PACKAGES / version / "output.npy"), atol=1e-6)
    if version == "v0_5":
        assert model.channel_names == ("mito", "er")
        assert model.voxel_size == (8, 4, 4)


def test_an_archive_is_a_package_too(tmp_path: Path) -> None:
    file = tmp_path / "network.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for member in (PACKAGES / "v0_5").iterdir():
            archive.write(member, member.name)
        archive.writestr("../outside.txt", "x")
    model = open_checkpoint(file)
    assert model.path == str(file / "weights.pt")
    assert model.sha256 == open_checkpoint(PACKAGES / "v0_5").sha256
    assert not (tmp_path / "outside.txt").exists()
    file.write_bytes(file.read_bytes().replace(b"PK\x01\x02", b"PK\x00\x00", 2))
    with pytest.raises(CheckpointError):
        open_checkpoint(file)


def test_an_archive_that_expands_is_not_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("rdf.yaml", b" " * (8 << 20))
    with pytest.raises(CheckpointError, match="claim to hold 8388608"):
        open_checkpoint(tmp_path / "a.zip")


def test_a_network_that_differs_from_its_test_tensors_is_refused(tmp_path: Path) -> None:
    package = changed(tmp_path, "v0_5")
    output = np.load(package / "output.npy")
    output[0, 0, 0, 0, 0] += 0.01 * output.max()
    np.save(package / "output.npy", output)
    with pytest.raises(CheckpointError, match=r"differs by up to 0\.01 of the largest value"):
        open_checkpoint(package)
    # Workers, which compare the hash of weights that reproduced them, do not compute them again.
    assert "test tensors" not in open_checkpoint(package, reproduce=False).record
    np.save(package / "output.npy", output[:, :1])
    with pytest.raises(CheckpointError, match="whose test output has"):
        open_checkpoint(package)


def per_sample(description: dict[str, Any]) -> None:
    description["inputs"][0]["preprocessing"] = [{"id": "zero_mean_unit_variance", "kwargs": {}}]


def percentiles(description: dict[str, Any]) -> None:
    kwargs = {"min_percentile": 1, "max_percentile": 99}
    description["inputs"][0]["preprocessing"] = [{"id": "scale_range", "kwargs": kwargs}]


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (per_sample, "zero_mean_unit_variance, which depends on the mean and standard deviation"),
        (percentiles, "scale_range, which depends on the percentiles"),
        (percentiles, "--normalize percentiles:1,99)"),
    ],
)
def test_a_rule_that_depends_on_the_data_must_be_declared(
    change: Change, name: str, tmp_path: Path
) -> None:
    model = open_checkpoint(changed(tmp_path, "v0_5", change))
    assert model.undeclared == ("normalization",)
    assert name in model.record["undeclared normalization"]
    assert "zscore:MEAN,STD" in model.record["undeclared normalization"]


def drop_weights(description: dict[str, Any]) -> None:
    description["weights"] = {"keras_hdf5": {"source": "weights.h5"}}


def leave_package(description: dict[str, Any]) -> None:
    description["weights"]["torchscript"]["source"] = "../../weights.pt"


def two_inputs(description: dict[str, Any]) -> None:
    description["inputs"] *= 2


def time_axis(description: dict[str, Any]) -> None:
    description["inputs"][0]["axes"][0] = {"type": "time"}


def old_version(description: dict[str, Any]) -> None:
    description["format_version"] = "0.3.2"


def no_outputs(description: dict[str, Any]) -> None:
    del description["outputs"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (drop_weights, "its weights are keras_hdf5"),
        (leave_package, "refers to '../../weights.pt', which is not in it"),
        (two_inputs, "it has 2 inputs"),
        (time_axis, "its axes tczyx are not supported"),
        (old_version, "format version '0.3.2'; models of 0.4 and 0.5 are read"),
        (no_outputs, r"not a valid description of a model \(KeyError"),
    ],
)
def test_other_packages_are_refused_by_name(change: Change, said: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=said):
        open_checkpoint(changed(tmp_path, "v0_5", change))


@pytest.mark.parametrize(
    ("steps", "rule"),
    [
        ([], "none"),
        ([{"name": "scale_linear", "kwargs": {"gain": [2.0], "offset": 1}}], "range:0,1,1.0,3.0"),
        (
            [
                {"id": "fixed_zero_mean_unit_variance", "kwargs": {"mean": 4, "std": 2, "eps": 0}},
                {"id": "scale_linear", "kwargs": {"gain": 3, "offset": 1}},
            ],
            "range:0,1,-5.0,-3.5",
        ),
    ],
)
def test_linear_steps_become_one_rule(steps: list[dict[str, Any]], rule: str) -> None:
    assert normalization_rule(*scale_and_shift(steps)) == rule


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ({"id": "clip", "kwargs": {"min": 0, "max": 1}}, "asks for clip before the network"),
        ({"id": "ensure_dtype", "kwargs": {"dtype": "uint8"}}, "asks for ensure_dtype"),
        ({"id": "scale_linear", "kwargs": {"gain": [1, 2]}}, "a gain of its own for each channel"),
        ({"id": "scale_linear", "kwargs": {"gain": "x"}}, "has gain"),
    ],
)
def test_other_steps_are_no_rule(step: dict[str, Any], said: str) -> None:
    with pytest.raises(NotARuleError, match=said):
        scale_and_shift([step])


def test_only_a_sigmoid_follows_a_network() -> None:
    assert activation_rule([{"id": "ensure_dtype", "kwargs": {"dtype": "float32"}}]) == "none"
    with pytest.raises(NotARuleError, match="asks for softmax after the network"):
        activation_rule([{"id": "softmax"}])
