"""Streaming equals one forward pass: the reference's fixtures, and random networks."""

from __future__ import annotations

import runpy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

from blockwise_predict.architectures import (
    CNNectomeUNetConfig,
    CNNectomeUNetModule,
    UNetShapes,
)
from blockwise_predict.engine.builder import StreamSpec
from blockwise_predict.engine.footprint import measure_footprint, meta_stream, peak_stream_bytes
from blockwise_predict.engine.passes import WholePass
from blockwise_predict.engine.streaming import StreamedUNet
from blockwise_predict.engine.values import Normalization
from blockwise_predict.plan.sizing import resident
from tests.support.dacapo import NAMES, load_case
from tests.support.networks import default_network, stream_spec
from tests.support.random_networks import SETTINGS, WithHead, configurations
from tests.support.shared import ROOT

CPU = torch.device("cpu")


def streamed(
    model: nn.Module,
    shapes: UNetShapes,
    x: torch.Tensor,
    axes: list[int],
    slab: int,
    chunk_voxels: int = 10_000,
) -> list[torch.Tensor]:
    """Each head's output `[K, *spatial]` for `x`, `[C, *spatial]`, pushed slab by slab."""
    spec = StreamSpec(shapes, tuple(axes), torch.float32, CPU, chunk_voxels)
    network = StreamedUNet(model, spec)
    planes = x.permute(*(1 + axis for axis in axes), 0).contiguous()
    heads: list[list[torch.Tensor]] = []
    with torch.inference_mode():
        for begin in range(0, len(planes), slab):
            last = begin + slab >= len(planes)
            for outputs in network.push(planes[begin : begin + slab], last):
                heads = heads or [[] for _ in outputs]
                for parts, output in zip(heads, outputs, strict=True):
                    parts += [] if output is None else [output]
    size = shapes.output_shape(x.shape[1:])[axes[0]]
    natural = [axes.index(axis) for axis in range(len(axes))]
    return [torch.cat(parts)[:size].permute(len(axes), *natural) for parts in heads]


def close(actual: torch.Tensor | np.ndarray, expected: np.ndarray) -> None:
    tolerance = 1e-5 * np.abs(expected).max()
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("slab", [1, 5, 16, 1000])
@pytest.mark.parametrize("name", [n for n in NAMES if "attention" not in n and "same" not in n])
def test_streams_reproduce_the_reference(name: str, slab: int) -> None:
    case = load_case(name)
    model, shapes, x = case.build(), case.shapes(), case.input[0]
    for first in range(shapes.dims):
        axes = [first, *(axis for axis in range(shapes.dims) if axis != first)]
        outputs = streamed(model, shapes, torch.from_numpy(x), axes, slab)
        for output, truth in zip(outputs, case.outputs, strict=True):
            close(output, truth[0])


@pytest.mark.parametrize("name", [n for n in NAMES if "mod3d" not in n])
def test_whole_passes_reproduce_the_reference(name: str) -> None:
    case = load_case(name)
    network = WholePass(
        case.build(),
        case.shapes().dims,
        precision="float32",
        normalization=Normalization(1.0),
        device=CPU,
    )
    ((begin, values, _),) = network.run(case.input[0])
    assert begin == 0
    (expected,) = case.outputs
    close(network.activate(values).movedim(-1, 0), expected[0])


@SETTINGS
@given(
    configurations(),
    st.sampled_from((1, 3)),
    st.integers(1, 40),
    st.sampled_from((1, 5000, 10**9)),
    st.data(),
)
def test_streams_of_random_networks_equal_one_pass(
    config: CNNectomeUNetConfig, kernel: int, slab: int, chunk_voxels: int, data: st.DataObject
) -> None:
    assume(config.padding == "valid" and not config.use_attention)
    torch.manual_seed(0)
    model = WithHead(config, kernel, 5).eval()
    for layer in model.modules():
        if isinstance(layer, (nn.BatchNorm2d, nn.BatchNorm3d)):
            layer.running_mean.uniform_(-0.5, 0.5)
            layer.running_var.uniform_(0.5, 2)
            nn.init.uniform_(layer.weight, 0.5, 2)
    shapes = UNetShapes.from_config(config, (kernel,) * len(config.input_shape), head_channels=5)
    periods = data.draw(st.tuples(*[st.integers(0, 2)] * shapes.dims))
    wish = [m + 90 * n for m, n in zip(shapes.min_input_shape, periods, strict=True)]
    shape = shapes.valid_input_shape([min(w, 60) for w in wish])
    assume(max(shape) < 90)
    axes = data.draw(st.permutations(range(shapes.dims)))
    x = torch.randn(1, config.fmaps_in, *shape)
    with torch.inference_mode():
        # The activation comes after the stream.
        expected = model.prediction_head(model.unet(x))[0]
    (output,) = streamed(model, shapes, x[0], list(axes), slab, chunk_voxels)
    close(output, expected.numpy())


def test_each_plane_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every convolution gives as many planes as in one pass, however thin the slabs are."""
    from blockwise_predict.engine import stages

    model, shapes = default_network()
    given: dict[int, int] = {}
    push = stages.StreamedConvolution.push

    def counted(self: Any, planes: Any) -> Any:
        result = push(self, planes)
        given[id(self)] = given.get(id(self), 0) + (0 if result is None else len(result))
        return result

    monkeypatch.setattr(stages.StreamedConvolution, "push", counted)
    x = torch.randn(1, *shapes.valid_input_shape((90,) * 3))
    counts = []
    for slab in (90, 7):
        given.clear()
        streamed(model, shapes, x, [0, 1, 2], slab)
        counts.append(sorted(given.values()))
    assert counts[0] == counts[1]


@pytest.mark.parametrize("plane", [(92, 92), (100, 180), (260, 260)])
@pytest.mark.parametrize("slab", [4, 12, 24])
def test_the_footprint_holds_between_the_sizes_it_was_measured_at(
    plane: tuple[int, int], slab: int
) -> None:
    model, shapes = default_network()
    footprint = measure_footprint(model.to("meta"), stream_spec(shapes))
    network = meta_stream(model, stream_spec(shapes))
    counted = peak_stream_bytes(network, plane, slab)
    # Too much rather than too little: splitting planes into chunks makes steps.
    assert 0.9 * counted < footprint.bytes(plane, slab) < 1.35 * counted


@pytest.mark.slow
def test_the_footprint_is_what_a_process_takes() -> None:
    """Resident memory of a real stream, in a process of its own, beside the count."""
    import subprocess
    import sys

    code = """
import re, torch
from pathlib import Path
from blockwise_predict.engine.footprint import peak_stream_bytes, meta_stream
from blockwise_predict.engine.streaming import StreamedUNet
from tests.support.networks import default_network, stream_spec
model, shapes = default_network()
network = StreamedUNet(model, stream_spec(shapes))
def memory(name):
    status = Path("/proc/self/status").read_text()
    return int(re.search(name + r":\\s+(\\d+) kB", status)[1]) * 1024
with torch.inference_mode():
    list(network.push(torch.zeros(16, 92, 92, 1), False))
    network.reset()
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    for _ in range(12):
        for _ in network.push(torch.zeros(16, 300, 300, 1), False):
            pass
empty = meta_stream(model, stream_spec(shapes))
counted = peak_stream_bytes(empty, (300, 300), 16)
print(memory("VmHWM") - before, counted)
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    taken, counted = map(int, result.stdout.split())
    assert 0.8 * counted < taken < 1.1 * resident(counted)


def test_the_figure_of_streaming_shows_what_the_engine_does() -> None:
    """Planes that come out, and planes of the skip connections that wait, after every plane."""
    figure = runpy.run_path(str(ROOT / "docs" / "figures" / "streaming.py"))
    sizes, pushed = figure["EXAMPLE"], figure["PUSHED"]
    module = CNNectomeUNetModule(
        in_channels=1,
        num_fmaps=2,
        fmap_inc_factor=2,
        downsample_factors=[(2, 2)] * 2,
        constant_upsample=True,
    )
    shapes = module._shapes
    assert shapes.axes[0] == sizes
    network = StreamedUNet(module.eval(), stream_spec(shapes, (0, 1)))
    width, given = shapes.min_input_shape[1], 0
    with torch.inference_mode():
        for count in range(1, pushed + 1):
            for (planes,) in network.push(torch.zeros(1, width, 1), False):
                given += 0 if planes is None else len(planes)
            output = figure["feature_maps"](sizes)[-1]
            assert given == output.available(count)
            level, waiting = network._unet, []
            while level._below is not None:
                waiting.append(len(level._up_paths[0]._merge._skip))
                level = level._below
            assert waiting == [figure["waiting"](sizes, number, count) for number in range(2)]
    assert given > 0
