"""NaN, infinity and values near the end of float32 come out where torch's forward pass has them."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from blockwise_predict.checkpoint import TrainedModel, open_checkpoint
from blockwise_predict.engine import convolution
from blockwise_predict.engine.builder import StreamSpec
from blockwise_predict.engine.passes import StreamedPass
from blockwise_predict.engine.precision import DEEP_DTYPES
from blockwise_predict.engine.settings import Streaming
from blockwise_predict.engine.streaming import StreamedUNet
from blockwise_predict.engine.values import Normalization
from blockwise_predict.engine.volume_passes import make_pass, predict_tile
from tests.support.networks import NETWORKS, save_network
from tests.support.nonfinite import in_float64, network, pattern, references, spoil, tile
from tests.support.reference import in_precision

AS_IT_IS = Normalization(1.0)


CPU = torch.device("cpu")


NOT_FINITE = [np.nan, np.inf, -np.inf]


HUGE = [3e38, -3e38, 1e37, -1e30, 1e20, 3e4]


# How far apart two passes that round otherwise may be, of the largest finite value. float16 takes
# the way that GPUs take, without oneDNN.
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1, "mixed": 0.1, "float16": 0.1}


# A batch norm that is folded in keeps finite what float16 cannot hold before it.
CASES = [
    (name, precision)
    for name in NETWORKS
    for precision in TOLERANCE
    if (name, precision) != ("batch norm", "float16")
]


# Where along the flattened array, and what.
SPOILS = st.lists(
    st.tuples(st.floats(0, 1), st.sampled_from([*NOT_FINITE, *HUGE, 0.0])), min_size=1, max_size=3
)


EXAMPLES = settings(max_examples=5, deadline=None)


def compare(
    found: np.ndarray, model: nn.Module, raw: np.ndarray, precision: str, torch_model: nn.Module
) -> None:
    """Hold values to two passes of torch in the same precision, where these agree with each other.

    Sums of huge values overflow in one order of addition and not in another. Where large terms
    cancel, rounding shows in the result: that of the weights, and that of torch's own passes.
    """
    expected = references(torch_model, raw)
    one, other = map(pattern, expected)
    sure = one == other
    assert sure.mean() > 0.9
    differs = pattern(found)[sure] != one[sure]
    # 16 bits round a value of almost nothing to 0, which infinity makes NaN, or do not.
    assert differs.mean() <= (0 if precision == "float32" else 0.002)
    exact = in_float64(model, raw)
    finite = sure & (one == 0) & np.isfinite(exact) & np.isfinite(found)
    if finite.any():
        scale = np.abs(expected[0][finite]).max() + 1e-30
        rounded = in_float64(model, raw, round_to=DEEP_DTYPES[precision])
        others = [rounded, *expected]
        rounding = max(np.abs(values[finite] - exact[finite]).max() for values in others)
        np.testing.assert_allclose(
            found[finite] / scale,
            expected[0][finite] / scale,
            atol=max(TOLERANCE[precision], 4 * rounding / scale),
            rtol=0,
        )


def streamed(
    model: nn.Module, trained: TrainedModel, raw: np.ndarray, precision: str, streaming: Streaming
) -> np.ndarray:
    shapes = trained.shapes
    made = make_pass(
        model,
        shapes,
        volume_dims=shapes.dims,
        streaming=streaming,
        precision=precision,
        normalization=AS_IT_IS,
        device=CPU,
    )
    return predict_tile(made, raw)


@pytest.mark.parametrize(("name", "precision"), CASES)
def test_of_the_input(name: str, precision: str, tmp_path: Path) -> None:
    trained = network(tmp_path, name)
    model = trained.build()
    torch_model = in_precision(model, precision)

    @EXAMPLES
    @given(SPOILS, st.permutations(range(trained.shapes.dims)), st.integers(1, 30))
    def equal(spoils: list[tuple[float, float]], axes: list[int], slab: int) -> None:
        raw = tile(trained)
        spoil(raw, spoils)
        found = streamed(model, trained, raw, precision, Streaming(tuple(axes), slab))
        compare(found, model, raw, precision, torch_model)

    equal()


@pytest.mark.parametrize(("name", "precision"), CASES)
def test_of_the_weights(name: str, precision: str, tmp_path: Path) -> None:
    trained = network(tmp_path, name)
    raw = tile(trained)
    axes = tuple(range(trained.shapes.dims))

    @EXAMPLES
    @given(SPOILS, st.floats(0, 1), st.integers(1, 30))
    def equal(spoils: list[tuple[float, float]], tensor: float, slab: int) -> None:
        model = copy.deepcopy(trained.build())
        tensors = [value for value in model.state_dict().values() if value.is_floating_point()]
        if precision != "float32":
            # Sums of products with such weights overflow, or cancel, depending on where results in
            # between are rounded to 16 bits.
            spoils = [(where, value) for where, value in spoils if not 1e3 < abs(value) < np.inf]
        spoil(tensors[int(tensor * (len(tensors) - 1))], spoils)
        found = streamed(model, trained, raw, precision, Streaming(axes, slab))
        compare(found, model, raw, precision, in_precision(model, precision))

    equal()


@pytest.mark.parametrize("name", ["two levels, factors 2 and 3", "transposed"])
def test_of_the_input_without_onednn(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convolution, "_onednn_supports", lambda _: False)
    test_of_the_input(name, "float32", tmp_path)


def test_of_the_input_of_a_network_that_is_not_streamed(tmp_path: Path) -> None:
    weights, architecture = save_network(
        tmp_path, input_shape=[44, 44], downsample_factors=[[2, 2]], use_attention=True
    )
    trained = open_checkpoint(weights, architecture=architecture)
    model = trained.build()
    raw = np.random.default_rng(0).normal(size=(1, 44, 44)).astype(np.float32)
    spoil(raw, [(0.1, np.nan), (0.5, np.inf), (0.9, 3e38)])
    made = make_pass(
        model,
        trained.shapes,
        volume_dims=2,
        streaming=None,
        precision="float32",
        normalization=AS_IT_IS,
        device=CPU,
    )
    compare(predict_tile(made, raw), model, raw, "float32", model)


@pytest.mark.parametrize("name", ["2-D", "two levels, factors 2 and 3"])
def test_one_voxel_spoils_what_it_can_reach_and_no_more(name: str, tmp_path: Path) -> None:
    """Also where the rest of the tile has been given out by then."""
    trained = network(tmp_path, name)
    model = trained.build()
    raw = tile(trained, (6, 1, 1))
    clean = streamed(model, trained, raw, "float32", Streaming((0, 1, 2)[: raw.ndim - 1], 1))
    raw[(0, -1, *(size // 2 for size in raw.shape[2:]))] = np.nan
    found = streamed(model, trained, raw, "float32", Streaming((0, 1, 2)[: raw.ndim - 1], 1))
    spoilt = np.isnan(found).any(axis=-1)
    assert spoilt[-1].any()
    assert not spoilt[0].any()
    np.testing.assert_allclose(found[~spoilt], clean[~spoilt], atol=1e-5 * np.abs(clean).max())


def test_overflow_on_the_way_is_noticed(tmp_path: Path) -> None:
    """Input and weights are finite and pass for safe; what comes of them is not."""
    trained = network(tmp_path, "two levels, factors 2 and 3")
    model = copy.deepcopy(trained.build())
    for layer in model.architecture.unet.l_conv.modules():
        if isinstance(layer, nn.Conv3d):
            layer.weight.mul_(1e5)
    raw = tile(trained) * 1e16
    stream = StreamedUNet(
        model, StreamSpec(trained.shapes, (0, 1, 2), torch.float32, CPU, chunk_voxels=1000)
    )
    assert AS_IT_IS.largest(raw) < stream.max_safe_input
    found = streamed(model, trained, raw, "float32", Streaming((0, 1, 2), 4))
    assert not np.isfinite(found).all()
    compare(found, model, raw, "float32", model)


def test_ordinary_values_take_the_fast_stream(tmp_path: Path) -> None:
    trained = network(tmp_path, "batch norm")
    streaming = Streaming((0, 1, 2), 8)
    made = make_pass(
        trained.build(),
        trained.shapes,
        volume_dims=3,
        streaming=streaming,
        precision="float32",
        normalization=AS_IT_IS,
        device=CPU,
    )
    assert isinstance(made, StreamedPass)
    predict_tile(made, tile(trained) * 1e6)
    assert "_unfused" not in vars(made)
