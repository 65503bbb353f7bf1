"""The central promise: blockwise output equals one forward pass over the whole volume."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from funlib.geometry import Coordinate, Roi
from hypothesis import given, settings
from hypothesis import strategies as st

from blockwise_predict.checkpoint import open_checkpoint
from blockwise_predict.engine.settings import Streaming
from blockwise_predict.engine.volume_passes import make_pass, predict_tile
from blockwise_predict.geometry.tiling import (
    fixed_tile_warnings,
    smallest_tile,
)
from tests.support.networks import NETWORKS, save_network
from tests.support.predictors import AS_IT_IS, CPU, predicted_block, predictor
from tests.support.reference import Held, one_pass

ONE_HOT = {"__type__": "OneHotTaskConfig", "name": "t", "classes": ["a", "b"]}


@pytest.mark.parametrize("name", NETWORKS)
def test_blocks_and_tiles_equal_one_forward_pass(name: str, tmp_path: Path) -> None:
    weights, architecture = save_network(tmp_path, **NETWORKS[name])
    trained = open_checkpoint(weights, architecture=architecture)
    shapes = trained.shapes
    volume = Held(np.random.default_rng(1).random((1, *(30, 27, 25)[: shapes.dims]), np.float32))
    extent = Coordinate(volume.shape) * Coordinate(shapes.scale)
    whole = one_pass(trained.build(), shapes, volume, Roi((0,) * shapes.dims, extent))
    scale = np.abs(whole).max()
    tiny = smallest_tile(shapes)

    @settings(max_examples=12, deadline=None)
    @given(
        st.tuples(*[st.integers(0, n - 1) for n in extent]),
        st.tuples(*[st.integers(1, 23)] * shapes.dims),
        st.tuples(*[st.integers(0, 3)] * shapes.dims),
        st.permutations(range(shapes.dims)),
        st.integers(1, 50),
    )
    def equal(
        begin: tuple[int, ...],
        size: tuple[int, ...],
        larger: tuple[int, ...],
        axes: list[int],
        slab: int,
    ) -> None:
        tile = [t + n * p for t, n, p in zip(tiny, larger, shapes.period, strict=True)]
        streamed = predictor(trained, tile, Streaming(tuple(axes), slab))
        block = Roi(begin, size).intersect(Roi((0,) * shapes.dims, extent))
        predicted = predicted_block(streamed, volume, block)
        expected = whole[(slice(None), *block.to_slices())]
        np.testing.assert_allclose(predicted, expected, atol=1e-5 * scale)

    equal()


@pytest.mark.parametrize("kwargs", [{"padding": "same"}, {"use_attention": True}])
def test_networks_that_are_not_equivariant_have_one_value_per_voxel(
    kwargs: dict[str, Any], tmp_path: Path
) -> None:
    weights, architecture = save_network(
        tmp_path, input_shape=[44, 44], **{"downsample_factors": [[2, 2], [2, 2]], **kwargs}
    )
    trained = open_checkpoint(weights, architecture=architecture)
    shapes = trained.shapes
    assert not shapes.equivariant
    tile = [n + 8 for n in smallest_tile(shapes)]
    whole_tiles = predictor(trained, tile, None)
    volume = Held(np.random.default_rng(1).random((1, 64, 60), np.float32))

    def block(begin: tuple[int, int], end: tuple[int, int]) -> np.ndarray:
        roi = Roi(begin, Coordinate(end) - Coordinate(begin))
        return predicted_block(whole_tiles, volume, roi)

    whole = block((0, 0), (64, 60))
    for begin, end in product([(0, 0), (7, 9), (31, 2)], [(64, 60), (33, 11)]):
        if all(b < e for b, e in zip(begin, end, strict=True)):
            part = whole[:, begin[0] : end[0], begin[1] : end[1]]
            np.testing.assert_allclose(block(begin, end), part, atol=1e-6)


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"upsample_factors": [[2, 2]]},
        {"upsample_factors": [[3, 3]]},
        # A head with valid convolutions on a network with same padding.
        {"task": ONE_HOT},
        {"task": ONE_HOT, "upsample_factors": [[2, 2]]},
        {"task": ONE_HOT, "downsample_factors": [[3, 3]]},
    ],
)
def test_same_padding_leaves_no_seams_between_tiles(kwargs: dict[str, Any], tmp_path: Path) -> None:
    settings = {"padding": "same", "input_shape": [44, 44], "downsample_factors": [[2, 2], [2, 2]]}
    weights, architecture = save_network(tmp_path, **{**settings, **kwargs})
    trained = open_checkpoint(weights, architecture=architecture)
    model, shapes = trained.build(), trained.shapes
    volume = Held(np.random.default_rng(1).random((1, 144, 144), np.float32))
    with torch.inference_mode():
        whole = model(torch.from_numpy(volume.data)[None])[0].numpy()
    low, trimmed = shapes.lost[0][0], shapes.context[0] // 2
    edge = 144 * shapes.scale[0] - 2 * low
    inside = Roi((low, low), (edge, edge))
    whole_tiles = predictor(trained, smallest_tile(shapes), None)
    lattice = whole_tiles.lattice
    predicted = predicted_block(whole_tiles, volume, inside)
    expected = whole[(slice(None), *(inside - trimmed).to_slices())]
    np.testing.assert_allclose(predicted, expected, atol=1e-5)
    (warning,) = fixed_tile_warnings(shapes, lattice)
    assert "padding 'same'" in warning


def test_a_2d_network_sees_each_slice_of_a_volume(tmp_path: Path) -> None:
    weights, architecture = save_network(
        tmp_path, input_shape=[20, 20], downsample_factors=[[2, 2]]
    )
    trained = open_checkpoint(weights, architecture=architecture)
    model, shapes = trained.build(), trained.shapes
    volume = Held(np.random.default_rng(1).random((1, 5, 30, 27), np.float32))
    streamed = predictor(trained, (3, *smallest_tile(shapes)), Streaming((1, 0), 4))
    block = Roi((1, 3, 2), (4, 20, 21))
    predicted = predicted_block(streamed, volume, block)
    for z in range(1, 5):
        flat = Held(volume.data[:, z])
        expected = one_pass(model, shapes, flat, Roi((3, 2), (20, 21)))
        np.testing.assert_allclose(predicted[:, z - 1], expected, atol=1e-5)


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_a_tile_has_its_own_axes_however_it_is_streamed(
    axes: tuple[int, ...], tmp_path: Path
) -> None:
    weights, architecture = save_network(tmp_path)
    trained = open_checkpoint(weights, architecture=architecture)
    tiny = smallest_tile(trained.shapes)
    tile = [n + k * p for k, (n, p) in enumerate(zip(tiny, trained.shapes.period, strict=True))]
    raw = np.random.default_rng(1).random((1, *tile), np.float32)
    streaming = Streaming(axes, 3)
    network = make_pass(
        trained.build(),
        trained.shapes,
        volume_dims=3,
        streaming=streaming,
        precision="float32",
        normalization=AS_IT_IS,
        device=CPU,
    )
    with torch.inference_mode():
        expected = trained.build()(torch.from_numpy(raw)[None])[0].movedim(0, -1).numpy()
    scale = np.abs(expected).max()
    np.testing.assert_allclose(predict_tile(network, raw), expected, atol=1e-5 * scale)
