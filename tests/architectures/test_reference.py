"""The reference implementation's outputs, from its own parameters."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.support.dacapo import NAMES, load_case


@pytest.mark.parametrize("name", NAMES)
def test_reproduces_the_reference(name: str) -> None:
    case = load_case(name)
    with torch.inference_mode():
        result = case.build()(torch.from_numpy(case.input))
    assert isinstance(result, list) == case.returns_list
    outputs = result if case.returns_list else [result]
    for output, expected in zip(outputs, case.outputs, strict=True):
        tolerance = 1e-5 * np.abs(expected).max()
        np.testing.assert_allclose(output.numpy(), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("cfg")])
def test_shape_arithmetic_agrees_with_the_reference(name: str) -> None:
    case = load_case(name)
    shapes = case.shapes()
    assert shapes.output_shape(case.input.shape[2:]) == case.outputs[0].shape[2:]
    valid = case.valid_input_sizes
    # The last axis: an anisotropic network takes other sizes along z.
    assert [shapes.axes[-1].nearest(size)[0] for size in valid] == valid
    assert shapes.valid_input_shape((valid[0] + 1,) * shapes.dims, "up")[-1] == valid[1]
