"""Channels of transformed predictions, held to quantities computed from transformed objects."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from blockwise_predict.engine.channel_moves import (
    channel_kinds,
    channel_moves,
    mirrored_channels,
)
from blockwise_predict.errors import ConfigError
from blockwise_predict.geometry.symmetry import Symmetry, symmetries


def shape_descriptors(points: np.ndarray) -> np.ndarray:
    """Mean offset from the origin, variance, correlation and size of points `[n, dims]`."""
    mean, covariance = points.mean(axis=0), np.cov(points.T)
    variance = np.diag(covariance)
    pairs = itertools.combinations(range(points.shape[1]), 2)
    correlation = [covariance[a, b] / np.sqrt(variance[a] * variance[b]) for a, b in pairs]
    scaled = [0.5 * mean + 0.5, variance, 0.5 * np.array(correlation) + 0.5]
    return np.concatenate([*scaled, [len(points)]])


def transformed(points: np.ndarray, symmetry: Symmetry) -> np.ndarray:
    """The points where a symmetry about the origin puts them."""
    signs = np.where(symmetry.flipped, -1, 1)
    return (points * signs)[:, list(symmetry.permutation)]


def moved_back(values: np.ndarray, names: list[str], symmetry: Symmetry, declared: str = "auto"):
    """The original's channels from those of the transformed."""
    kinds = channel_kinds(names, len(symmetry.permutation), None, declared)
    values = values.copy()
    for channel, zero in mirrored_channels(kinds, symmetry):
        values[channel] = 2 * zero - values[channel]
    result = np.full_like(values, np.nan)
    for move in channel_moves(kinds, symmetry):
        result[list(move.targets)] = values[list(move.sources)]
    return result


@pytest.mark.parametrize("dims", [2, 3])
def test_shape_descriptors_of_a_transformed_object_are_turned_back(dims: int) -> None:
    points = np.random.default_rng(0).normal(0.3, (1.0, 2.0, 0.5)[:dims], (50, dims))
    points[:, 0] += 0.7 * points[:, 1]
    wanted = shape_descriptors(points)
    names = [f"lsd_{number}" for number in range(len(wanted))]
    for symmetry in symmetries("all", dims):
        found = shape_descriptors(transformed(points, symmetry))
        np.testing.assert_allclose(moved_back(found, names, symmetry), wanted)


def test_vectors_of_a_transformed_object_are_turned_back() -> None:
    vectors = np.array([[1.0, -2.0, 0.5], [3.0, 4.0, -5.0]])
    names = [f"channel_{number}" for number in range(6)]
    for symmetry in symmetries("all", 3):
        found = transformed(vectors, symmetry).reshape(-1)
        turned = moved_back(found, names, symmetry, "vectors")
        np.testing.assert_array_equal(turned, vectors.reshape(-1))


@pytest.mark.parametrize(
    ("names", "declared", "reason"),
    [
        (["a", "b"], "vectors", "2 channels are not the components of vectors with 3 each"),
        ([f"lsd_{n}" for n in range(9)], "auto", r"channel lsd_0 .* all 10 channels"),
        (["mito"], "auto", "how channel mito changes"),
    ],
)
def test_channels_that_do_not_fit_are_named(names: list[str], declared: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        channel_kinds(names, 3, None, declared)
