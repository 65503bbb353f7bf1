"""Networks whose files leave their normalisation or their activation unsaid."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from funlib.geometry import Coordinate, Roi

from blockwise_predict.checkpoint import open_checkpoint
from blockwise_predict.config.model import load_config
from blockwise_predict.errors import CheckpointError, ConfigError
from blockwise_predict.io import open_in_memory
from blockwise_predict.plan.declared import check_declared
from tests.support.networks import save_network
from tests.support.reference import Held, one_pass
from tests.support.runs import predict, read_output, write_volume

AFFINITIES = {"__type__": "AffinitiesTaskConfig", "neighborhood": [[0, 0, 1]]}


def test_a_declared_activation_and_range_are_used(tmp_path: Path) -> None:
    weights, architecture = save_network(tmp_path)
    data = np.random.default_rng(0).integers(0, 256, (26, 24, 23), np.uint8)
    volume, output = write_volume(tmp_path / "raw.zarr", data), f"{tmp_path}/out.zarr/out"
    options = [
        *("--checkpoint", weights, "--architecture", architecture, "--input", volume),
        *("--output", output, "--device", "cpu", "--precision", "float32"),
        *("--normalize", "range:0,255,-1,1"),
    ]
    predict("run", *options, "--activation", "tanh", "--chunk-shape", "16,16,16")
    record = zarr.open_array(output, mode="r").attrs["blockwise_predict"]
    assert (record["activation"], record["normalization"]["shift"]) == ("tanh", -1)
    network = open_checkpoint(weights, architecture=architecture)
    held = Held((data.astype(np.float32) / 255 - 0.5)[None] / 0.5)
    roi = Roi((0, 0, 0), Coordinate(data.shape))
    expected = np.tanh(one_pass(network.build(), network.shapes, held, roi))
    assert expected.std() > 0.1
    np.testing.assert_allclose(read_output(output), expected, rtol=0, atol=1e-5)
    # It is part of what a run is.
    said = predict("run", *options, "--activation", "none", code=2)
    assert "activation: was tanh, is now none" in said


def test_integers_span_what_a_declared_activation_guarantees(tmp_path: Path) -> None:
    weights, architecture = save_network(tmp_path)
    network = open_checkpoint(weights, architecture=architecture, activation="sigmoid")
    assert network.output_range == (0, 1)
    assert network.options["activation"] == "sigmoid"
    plain = open_checkpoint(weights, architecture=architecture)
    x = torch.rand(1, 1, 20, 20, 20)
    assert torch.equal(network.build()(x), torch.sigmoid(plain.build()(x)))
    assert (
        open_checkpoint(weights, architecture=architecture, activation="none").output_range is None
    )


def test_an_activation_is_not_applied_twice(tmp_path: Path) -> None:
    weights, architecture = save_network(tmp_path, task=AFFINITIES)
    with pytest.raises(CheckpointError, match=r"--activation sigmoid: .* of its own \(Sigmoid\)"):
        open_checkpoint(weights, architecture=architecture, activation="sigmoid")
    with pytest.raises(CheckpointError, match="one of none, sigmoid, tanh"):
        open_checkpoint(weights, architecture=architecture, activation="softmax")


@pytest.mark.parametrize(
    ("dtype", "rules"),
    [
        ("uint8", ("--normalize auto for", "--normalize range:0,255,-1,1 for")),
        ("uint16", ("--normalize auto for", "--normalize range:0,65535,-1,1 for")),
        ("float32", ("--normalize none for", "--normalize range:0,1,-1,1 for")),
        ("int16", ("--normalize range:LOW,HIGH for", "--normalize range:LOW,HIGH,-1,1 for")),
    ],
)
def test_what_is_not_stated_is_asked_for(
    dtype: str, rules: tuple[str, str], tmp_path: Path
) -> None:
    weights, architecture = save_network(tmp_path)
    network = open_checkpoint(weights, architecture=architecture)
    unsaid = replace(network, undeclared=("activation", "normalization"))
    array = open_in_memory(np.zeros((20, 20, 20), dtype))
    given: dict[str, Any] = {"checkpoint": "x", "input": "a.zarr/raw", "output": "b.zarr/out"}
    with pytest.raises(ConfigError) as refused:
        check_declared(load_config(given), unsaid, array)
    for part in (*rules, "--activation sigmoid", "--activation none"):
        assert part in str(refused.value)
    with pytest.raises(ConfigError, match="does not state the activation") as refused:
        check_declared(load_config({**given, "normalize": "none"}), unsaid, array)
    assert "--normalize" not in str(refused.value)
    percentiles = replace(unsaid, record={"undeclared normalization": "its package asks for x"})
    with pytest.raises(
        ConfigError, match=r"its input \(its package asks for x\)\. Declare"
    ) as refused:
        check_declared(load_config(given), percentiles, array)
    assert "--normalize" not in str(refused.value)
    declared = replace(unsaid, undeclared=("normalization",))
    check_declared(load_config({**given, "normalize": "none"}), declared, array)
