"""The reference implementation's outputs, from its own parameters."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from blockwise_predict.architectures import (
    CNNectomeUNet,
    CNNectomeUNetConfig,
    CNNectomeUNetModule,
    UNetShapes,
)
from tests.support.shared import shared_path

NAMES = (
    "cfg2d_attention_batchnorm",
    "cfg2d_default",
    "cfg3d_anisotropic",
    "cfg3d_attention",
    "cfg3d_batchnorm",
    "cfg3d_default",
    "cfg3d_factor3",
    "cfg3d_same_padding",
    "cfg3d_superresolution",
    "cfg3d_transposed",
    "mod3d_contraction_list",
    "mod3d_defaults",
    "mod3d_elu",
    "mod3d_two_heads",
)


@pytest.mark.parametrize("name", NAMES)
def test_reproduces_the_reference(name: str) -> None:
    folder = shared_path("oracle/cnnectome_unet")
    case = json.loads((folder / f"{name}.json").read_text())
    arrays = np.load(folder / f"{name}.npz")
    if case["kind"] == "config":
        config = CNNectomeUNetConfig(name=name, **case["kwargs"])
        model: torch.nn.Module = CNNectomeUNet(config)
    else:
        model = CNNectomeUNetModule(**case["kwargs"])
    parameters = {
        key.removeprefix("param/"): torch.from_numpy(arrays[key])
        for key in arrays
        if key.startswith("param/")
    }
    model.load_state_dict(parameters, strict=True)
    with torch.inference_mode():
        result = model.eval()(torch.from_numpy(arrays["input"]))
    assert isinstance(result, list) == case["returns_list"]
    for number, output in enumerate(result if case["returns_list"] else [result]):
        expected = arrays[f"output/{number}"]
        tolerance = 1e-5 * np.abs(expected).max()
        np.testing.assert_allclose(output.numpy(), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("cfg")])
def test_shape_arithmetic_agrees_with_the_reference(name: str) -> None:
    folder = shared_path("oracle/cnnectome_unet")
    case = json.loads((folder / f"{name}.json").read_text())
    arrays = np.load(folder / f"{name}.npz")
    shapes = UNetShapes.from_config(CNNectomeUNetConfig(name=name, **case["kwargs"]))
    assert shapes.output_shape(arrays["input"].shape[2:]) == arrays["output/0"].shape[2:]
    valid = case["valid_input_sizes"]
    # The last axis: an anisotropic network takes other sizes along z.
    assert [shapes.axes[-1].nearest(size)[0] for size in valid] == valid
    assert shapes.valid_input_shape((valid[0] + 1,) * shapes.dims, "up")[-1] == valid[1]
