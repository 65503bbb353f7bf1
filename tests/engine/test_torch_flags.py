"""A pass has the torch flags it needs, and leaves those of the process alone."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from blockwise_predict.checkpoint import open_checkpoint
from blockwise_predict.engine.passes import Pass
from blockwise_predict.engine.settings import Streaming
from blockwise_predict.engine.torch_flags import pass_flags, run_under
from blockwise_predict.engine.values import Normalization
from blockwise_predict.engine.volume_passes import make_pass, predict_tile
from tests.support.networks import save_network

NEW_FLAGS = hasattr(torch.backends.cudnn, "conv")
CPU, CUDA = torch.device("cpu"), torch.device("cuda")
STREAMED = pytest.mark.parametrize("streaming", [Streaming((0, 1, 2), 6), None])


def flags() -> dict[str, object]:
    """All process-wide flags that affect a network's speed or values."""
    found: dict[str, object] = {
        "benchmark": torch.backends.cudnn.benchmark,
        "cudnn tf32": torch.backends.cudnn.allow_tf32,
        "matmul tf32": torch.backends.cuda.matmul.allow_tf32,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "cudnn deterministic": torch.backends.cudnn.deterministic,
        "matmul precision": torch.get_float32_matmul_precision(),
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "dtype": torch.get_default_dtype(),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "oneDNN": torch.backends.mkldnn.enabled,
    }
    if NEW_FLAGS:
        found["oneDNN conv"] = torch.backends.mkldnn.conv.fp32_precision
        found["cudnn conv"] = torch.backends.cudnn.conv.fp32_precision
        found["matmul"] = torch.backends.cuda.matmul.fp32_precision
    return found


@contextmanager
def rounding_convolutions() -> Iterator[None]:
    """A process whose user allows oneDNN to round the factors of float32 products to bfloat16."""
    before = torch.backends.mkldnn.conv.fp32_precision
    torch.backends.mkldnn.conv.fp32_precision = "bf16"
    try:
        yield
    finally:
        torch.backends.mkldnn.conv.fp32_precision = before


def network_pass(
    folder: Path, streaming: Streaming | None
) -> tuple[Callable[[], Pass], np.ndarray]:
    """Makes a pass of a tiny network, and a tile for it."""
    weights, architecture = save_network(folder)
    trained = open_checkpoint(weights, architecture=architecture)

    def make() -> Pass:
        return make_pass(
            trained.build(),
            trained.shapes,
            volume_dims=3,
            streaming=streaming,
            precision="float32",
            normalization=Normalization(1.0),
            device=CPU,
        )

    return make, np.random.default_rng(0).random((1, 24, 24, 24), np.float32)


@STREAMED
def test_a_prediction_leaves_the_flags_as_they_were(
    streaming: Streaming | None, tmp_path: Path
) -> None:
    make, raw = network_pass(tmp_path, streaming)
    before = flags()
    predict_tile(make(), raw)
    assert flags() == before


@pytest.mark.skipif(not NEW_FLAGS, reason="this torch has no such flag")
@STREAMED
def test_a_users_flags_neither_change_the_values_nor_are_changed(
    streaming: Streaming | None, tmp_path: Path
) -> None:
    make, raw = network_pass(tmp_path, streaming)
    expected = predict_tile(make(), raw)
    with rounding_convolutions():
        before = flags()
        network = make()
        parts = []
        for planes in network.run(raw):
            # The flags are the user's between the planes, too.
            assert flags() == before
            parts.append(network.activate(planes.values).numpy())
        assert flags() == before
    np.testing.assert_array_equal(np.concatenate(parts), expected)


@pytest.mark.skipif(not NEW_FLAGS, reason="this torch has no such flag")
def test_a_failed_prediction_restores_the_flags(tmp_path: Path) -> None:
    make, raw = network_pass(tmp_path, None)
    with rounding_convolutions():
        before = flags()
        with pytest.raises(RuntimeError, match="not valid"):
            predict_tile(make(), raw[:, :23])
        assert flags() == before


@pytest.mark.parametrize("precision", ["float32", "tfloat32", "float16"])
def test_the_flags_of_a_gpu(precision: str) -> None:
    """They can be set without a GPU."""
    before = flags()
    with pass_flags(precision, CUDA):
        assert torch.backends.cudnn.benchmark
        if NEW_FLAGS:
            expected = "tf32" if precision == "tfloat32" else "ieee"
            assert torch.backends.cudnn.conv.fp32_precision == expected
            assert torch.backends.cuda.matmul.fp32_precision == expected
        else:
            expected = precision == "tfloat32"
            assert torch.backends.cudnn.allow_tf32 == expected
            assert torch.backends.cuda.matmul.allow_tf32 == expected
    assert flags() == before


def test_a_generator_runs_its_steps_in_the_context_and_is_closed() -> None:
    events: list[str] = []

    @contextmanager
    def context() -> Iterator[None]:
        events.append("in")
        yield
        events.append("out")

    def steps() -> Generator[int]:
        try:
            for number in range(3):
                events.append(f"step {number}")
                yield number
        finally:
            events.append("closed")

    run = run_under(context, steps())
    assert next(run) == 0
    assert events == ["in", "step 0", "out"]
    run.close()
    assert events[3:] == ["closed"]
    events.clear()
    assert list(run_under(context, steps())) == [0, 1, 2]
    assert events.count("in") == events.count("out") == 4


def test_convolutions_do_round_where_the_user_allows_it() -> None:
    """Otherwise the test of a user's flags would hold without a reason."""
    if not (NEW_FLAGS and torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        pytest.skip("this torch or CPU does not round")
    conv = nn.Conv3d(8, 8, 3)
    kernel = torch.ops.mkldnn._reorder_convolution_weight(
        conv.weight.detach(), [0] * 3, [1] * 3, [1] * 3, 1, [1, 8, 16, 96, 96]
    )
    x = torch.randn(1, 8, 12, 40, 40).contiguous(memory_format=torch.channels_last_3d)

    def convolved() -> torch.Tensor:
        return torch.ops.mkldnn._convolution_pointwise(
            x, kernel, conv.bias.detach(), [0] * 3, [1] * 3, [1] * 3, 1, "none", [], ""
        )

    exact = convolved()
    with rounding_convolutions():
        assert not torch.equal(convolved(), exact)
