"""Blocks of volumes with time equal one forward pass over all of it, frame by frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from funlib.geometry import Roi
from hypothesis import given, settings
from hypothesis import strategies as st

from blockwise_predict.checkpoint import open_checkpoint
from blockwise_predict.engine.settings import Streaming
from blockwise_predict.geometry.tiling import smallest_tile
from tests.support.networks import save_network
from tests.support.predictors import predicted_block, predictor
from tests.support.reference import Held, one_pass
from tests.support.time_networks import TIME_NETWORKS

FRAMES, SPACE = 7, (21, 18, 16)


class KeepingTime(torch.nn.Module):
    """A network with a time axis of one frame where it drops time."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output = self.network(x)
        return output if output.dim() == 6 else output[:, :, None]


@pytest.mark.parametrize("name", TIME_NETWORKS)
def test_blocks_in_time_and_space_equal_one_forward_pass(name: str, tmp_path: Path) -> None:
    weights, architecture = save_network(tmp_path, **TIME_NETWORKS[name])
    trained = open_checkpoint(weights, architecture=architecture)
    shapes, model = trained.shapes, KeepingTime(trained.build())
    volume = Held(np.random.default_rng(1).random((1, FRAMES, *SPACE), np.float32))
    # A network that drops time is defined for the length of its training: one pass for each frame.
    lengths = [1] * FRAMES if shapes.time_dropped else [FRAMES]
    begins = np.cumsum([0, *lengths[:-1]])
    passes = [
        one_pass(model, shapes, volume, Roi((begin, 0, 0, 0), (length, *SPACE)))
        for begin, length in zip(begins, lengths, strict=True)
    ]
    whole = np.concatenate(passes, axis=1)
    assert whole.shape[1:] == volume.shape
    scale, tiny = np.abs(whole).max(), smallest_tile(shapes)

    @settings(max_examples=6, deadline=None)
    @given(
        st.tuples(*[st.integers(0, n - 1) for n in volume.shape]),
        st.tuples(st.integers(1, FRAMES), *[st.integers(1, 13)] * 3),
        st.tuples(*[st.integers(0, 2)] * 4),
        st.permutations((1, 2, 3)),
        st.integers(1, 30),
    )
    def equal(
        begin: tuple[int, ...],
        size: tuple[int, ...],
        larger: tuple[int, ...],
        axes: list[int],
        slab: int,
    ) -> None:
        tile = [t + n * p for t, n, p in zip(tiny, larger, shapes.period, strict=True)]
        if shapes.time_dropped:
            tile[0] = tiny[0]
        streamed = predictor(trained, tile, Streaming((*axes, 0), slab))
        block = Roi(begin, size).intersect(Roi((0,) * 4, volume.shape))
        predicted = predicted_block(streamed, volume, block)
        expected = whole[(slice(None), *block.to_slices())]
        np.testing.assert_allclose(predicted, expected, rtol=0, atol=1e-5 * scale)

    equal()


def test_a_tile_that_is_too_large_is_halved_in_space_or_time(tmp_path: Path) -> None:
    weights, architecture = save_network(tmp_path, **TIME_NETWORKS["time kept"])
    trained = open_checkpoint(weights, architecture=architecture)
    tiny = smallest_tile(trained.shapes)
    tile = [t + 4 * p for t, p in zip(tiny, trained.shapes.period, strict=True)]
    streamed = predictor(trained, tile, Streaming((1, 2, 3, 0), 4))
    shapes = [tuple(tile)]
    while streamed.shrink(streamed.lattice):
        shapes.append(streamed.lattice.tile_shape)
    assert len(shapes) > 3
    smallest = shapes[-1]
    assert smallest[0] == tiny[0]
    assert all(trained.shapes.output_shape(shape) for shape in shapes)
    volume = Held(np.random.default_rng(1).random((1, FRAMES, *SPACE), np.float32))
    block = Roi((1, 3, 2, 1), (4, 9, 8, 7))
    model = KeepingTime(trained.build())
    expected = one_pass(model, trained.shapes, volume, block)
    found = predicted_block(streamed, volume, block)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
