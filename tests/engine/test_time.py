"""Networks with a time axis are streamed in space, with all frames of a voxel at once."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from blockwise_predict.architectures import Conv4d, UNetShapes
from blockwise_predict.engine import convolution
from blockwise_predict.engine.convolution import layer_weights
from blockwise_predict.engine.footprint import measure_footprint, meta_stream, peak_stream_bytes
from blockwise_predict.engine.frames import FrameConvolution
from blockwise_predict.engine.passes import Pass, StreamedPass
from blockwise_predict.engine.settings import Streaming
from blockwise_predict.engine.values import Normalization
from blockwise_predict.engine.volume_passes import make_pass, predict_tile
from tests.support.networks import stream_spec
from tests.support.nonfinite import pattern, spoil
from tests.support.time_networks import TIME_NETWORKS, time_config, time_network

CPU = torch.device("cpu")
SPACES = list(permutations((1, 2, 3)))


def a_pass(
    model: nn.Module, shapes: UNetShapes, streaming: Streaming | None, precision: str = "float32"
) -> Pass:
    return make_pass(
        model,
        shapes,
        volume_dims=4,
        streaming=streaming,
        precision=precision,
        normalization=Normalization(1.0),
        device=CPU,
    )


def a_tile(name: str, shapes: UNetShapes) -> np.ndarray:
    """Random raw values, `[1, T, z, y, x]`, a few periods larger than the smallest input."""
    sizes = zip(shapes.min_input_shape[1:], shapes.period[1:], (2, 1, 3), strict=True)
    length = time_config(name).input_shape[0]
    shape = (1, length, *(size + more * period for size, period, more in sizes))
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def forward(model: nn.Module, raw: np.ndarray) -> np.ndarray:
    """`[T, z, y, x, K]` of the module."""
    with torch.inference_mode():
        output = model(torch.from_numpy(raw)[None])
    output = output if output.dim() == 6 else output[:, :, None]
    return output[0].movedim(0, -1).numpy()


@settings(max_examples=20, deadline=None)
@given(st.tuples(*[st.integers(1, 3)] * 4), st.integers(0, 3), st.integers(1, 3), st.booleans())
def test_a_convolution_equals_that_of_the_module(
    kernel: tuple[int, ...], more: int, channels: int, added: bool
) -> None:
    torch.manual_seed(0)
    layer = Conv4d(channels, 2, kernel)
    axes = (2, 1, 3, 0)
    prepared = FrameConvolution(layer_weights(layer, axes), torch.float32, CPU)
    x = torch.randn(1, channels, *(k + n for k, n in zip(kernel, (more, 3, 2, 4), strict=True)))
    planes = x[0].permute(*(1 + axis for axis in axes), 0).contiguous()
    with torch.inference_mode():
        expected = layer(x)[0].permute(*(1 + axis for axis in axes), 0)
        total = torch.ones_like(expected).contiguous()
        found = prepared.add_to(total, planes) - 1 if added else prepared(planes)
    assert prepared.kernel_size == tuple(kernel[axis] for axis in axes)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", TIME_NETWORKS)
def test_streams_equal_the_module(name: str) -> None:
    model, shapes = time_network(time_config(name))
    raw = a_tile(name, shapes)
    expected = forward(model, raw)
    scale = np.abs(expected).max()
    for axes, slab in zip(SPACES, (1, 2, 3, 5, 8, 100), strict=True):
        found = predict_tile(a_pass(model, shapes, Streaming((*axes, 0), slab)), raw)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * scale)
    whole = predict_tile(a_pass(model, shapes, None), raw)
    np.testing.assert_allclose(whole, expected, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize("onednn", [True, False])
@pytest.mark.parametrize("name", TIME_NETWORKS)
def test_what_is_not_finite_stays_in_its_frames(
    name: str, onednn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not onednn:
        monkeypatch.setattr(convolution, "_onednn_supports", lambda _: False)
    model, shapes = time_network(time_config(name))
    raw = a_tile(name, shapes)
    network = a_pass(model, shapes, Streaming((2, 3, 1, 0), 3))
    assert isinstance(network, StreamedPass)
    predict_tile(network, raw)
    assert "_unfused" not in vars(network)
    for value, where in ((np.nan, 0.02), (np.inf, 0.5), (-np.inf, 0.98)):
        spoilt = raw.copy()
        spoil(spoilt, [(where, value)])
        expected = forward(model, spoilt)
        found = predict_tile(network, spoilt)
        np.testing.assert_array_equal(pattern(found), pattern(expected))
        finite = np.isfinite(expected)
        np.testing.assert_allclose(found[finite], expected[finite], rtol=1e-5, atol=1e-5)
    assert "_unfused" in vars(network)


def test_values_overflow_as_in_the_module() -> None:
    """Without negative values, sums overflow in every order of addition or in none."""
    model, shapes = time_network(time_config("time kept"))
    for parameter in model.parameters():
        parameter.data.abs_()
    raw = np.abs(a_tile("time kept", shapes))
    raw *= float(np.finfo(np.float32).max) / np.median(forward(model, raw))
    network = a_pass(model, shapes, Streaming((1, 2, 3, 0), 4))
    found, expected = predict_tile(network, raw), forward(model, raw)
    assert 0.05 < np.isinf(expected).mean() < 0.95
    assert (pattern(found) == pattern(expected)).mean() > 0.999


@pytest.mark.parametrize("precision", ["bfloat16", "mixed"])
def test_faster_precisions_are_close(precision: str) -> None:
    model, shapes = time_network(time_config("two levels whose skips crop time"))
    raw = a_tile("two levels whose skips crop time", shapes)
    expected = forward(model, raw)
    found = predict_tile(a_pass(model, shapes, Streaming((1, 2, 3, 0), 8), precision), raw)
    assert np.sqrt(np.mean((found - expected) ** 2)) < 0.02 * np.ptp(expected)


def test_the_footprint_counts_frames() -> None:
    name = "time kept"
    model, shapes = time_network(time_config(name))
    model = model.to("meta")
    spec = stream_spec(shapes, (1, 2, 3, 0))
    network = meta_stream(model, spec)
    footprint = measure_footprint(model, spec, frames=12)
    counted = peak_stream_bytes(network, (100, 140, 12), 8)
    assert 0.9 * counted < footprint.bytes((100, 140, 12), 8) < 1.35 * counted
