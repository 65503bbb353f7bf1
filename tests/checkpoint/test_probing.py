"""What probing finds out about random U-Nets, held to what is known from their layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import nn

from blockwise_predict.architectures import CNNectomeUNet, CNNectomeUNetConfig, UNetShapes
from blockwise_predict.checkpoint import open_checkpoint
from blockwise_predict.checkpoint.probing import ProbedShapes, agreement, probe_network
from blockwise_predict.checkpoint.probing.probe import Hints
from blockwise_predict.checkpoint.probing.sizes import Candidate
from blockwise_predict.geometry.probed import Probed
from tests.support.programs import lively


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def two_d(**settings: Any) -> CNNectomeUNetConfig:
    """A small network."""
    given = {"fmaps_in": 1, "fmaps_out": 2, "num_fmaps": 2, "fmap_inc_factor": 2, **settings}
    return CNNectomeUNetConfig(name="small", input_shape=(1, 1), **given)


@st.composite
def small_unets(draw: st.DrawFn) -> CNNectomeUNetConfig:
    """2-D networks of two levels."""
    padding = draw(st.sampled_from(("valid", "same")))
    kernel = st.sampled_from((1, 2, 3, 4) if padding == "valid" else (1, 3))
    kernels = st.lists(st.tuples(kernel, kernel), min_size=1, max_size=2)
    factors = st.tuples(st.integers(1, 3), st.integers(1, 3))
    return two_d(
        padding=padding,
        fmaps_in=draw(st.integers(1, 2)),
        downsample_factors=[draw(factors)],
        kernel_size_down=[draw(kernels), draw(kernels)],
        kernel_size_up=[draw(kernels)],
        upsample_factors=draw(st.lists(st.tuples(st.integers(1, 2), st.just(2)), max_size=1)),
        constant_upsample=draw(st.booleans()),
    )


def probe(config: CNNectomeUNetConfig) -> Probed:
    network = lively(CNNectomeUNet(config))
    return probe_network(network, Hints([Candidate(2, config.fmaps_in)]), lambda _: None)


# Without shrinking, which would probe hundreds of networks.
@settings(
    max_examples=5,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    phases=[Phase.generate],
)
@given(small_unets())
def test_probing_finds_the_shapes_of_a_unet(config: CNNectomeUNetConfig) -> None:
    known, probed = UNetShapes.from_config(config), probe(config)
    shapes = ProbedShapes(probed.axes, exact=probed.inexact is None)
    assert probed.inexact is None
    assert (probed.in_channels, probed.out_channels) == (config.fmaps_in, config.fmaps_out)
    assert (shapes.context, shapes.scale) == (known.context, known.scale)
    # A pass may be equivariant for smaller shifts than its pooling suggests, not for others.
    assert all(k % p == 0 for k, p in zip(known.period, shapes.period, strict=True))
    if config.padding == "valid":
        assert shapes.lost == known.lost
    for (low, high), (known_low, known_high) in zip(shapes.lost, known.lost, strict=True):
        assert low <= known_low
        assert high <= known_high
    if shapes.period == known.period:
        for rounding in ("down", "up"):
            found = shapes.valid_input_shape((150, 170), rounding)
            assert found == known.valid_input_shape((150, 170), rounding)


def test_attention_is_not_exact() -> None:
    probed = probe(two_d(downsample_factors=[(2, 2)], use_attention=True))
    assert probed.inexact is not None
    assert not ProbedShapes(probed.axes, exact=False).equivariant


@pytest.mark.parametrize("far", [False, True])
def test_only_what_was_compared_is_evidence(far: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if far:
        apart = agreement._Pair((1, 1, 1), (1, 1, 1), shift=(9, 9, 9), seed=1)
        monkeypatch.setattr(agreement, "_PAIRS", (apart,))
    hints = Hints([Candidate(2, 1)])
    *_, last = probe_network(lively(nn.Conv2d(1, 1, 3)), hints, lambda _: None).evidence
    assert last.startswith("not checked" if far else "tiles that differ along all axes agree")


class _Residual(nn.Module):
    """Adds the centre of its input to a convolution of it, as residual networks do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.conv(x)
        begins = [(x.shape[axis] - y.shape[axis]) // 2 for axis in (2, 3)]
        rows, columns = (slice(b, b + n) for b, n in zip(begins, y.shape[2:], strict=True))
        return y + x[:, :, rows, columns]


def test_a_trace_that_computes_with_sizes_is_probed_with_values(tmp_path: Path) -> None:
    """Its sizes are tensors, which cannot be followed without values."""
    file = tmp_path / "net.ts"
    torch.jit.trace(lively(_Residual()), torch.rand(1, 1, 70, 70)).save(file)
    model = open_checkpoint(file)
    assert model.shapes.context == (4, 4)
    assert model.shapes.equivariant
