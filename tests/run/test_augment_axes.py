"""Test-time augmentation of networks with a time axis, and of those that output smaller voxels."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from funlib.geometry import Coordinate, Roi

import blockwise_predict as bp
from blockwise_predict.checkpoint import TrainedModel
from tests.support.networks import save_network
from tests.support.reference import Held, one_pass
from tests.support.time_networks import TIME_NETWORKS

# One along each axis.
OFFSETS = [[1, 0, 0], [0, 1, 0], [0, 0, -3]]
# Doubles the voxels in the plane.
IN_PLANE = {"upsample_factors": [[1, 2, 2]], "input_shape": [24, 24, 24]}
OPTIONS: dict[str, Any] = {
    **{"augment": "flips", "precision": "float32", "progress": False, "device": "cpu"},
    "block_shape": (2, 6, 8, 6),
}


def opened(folder: Path, network: dict[str, Any], offsets: list[list[int]]) -> TrainedModel:
    task = {"__type__": "AffinitiesTaskConfig", "name": "affs", "neighborhood": offsets}
    weights, architecture = save_network(folder, task=task, **network)
    return bp.open_checkpoint(weights, architecture=architecture)


def flipped_copies(
    trained: TrainedModel, raw: np.ndarray
) -> Iterator[tuple[np.ndarray, tuple[int, ...]]]:
    """What one pass predicts for flips of the axes of space, flipped back; and the flipped axes."""
    whole = Roi((0,) * raw.ndim, Coordinate(raw.shape) * Coordinate(trained.shapes.scale))
    for count in range(4):
        for axes in itertools.combinations((-3, -2, -1), count):
            given = Held(np.flip(raw, axes)[None].astype(np.float32) / 255)
            yield np.flip(one_pass(trained.build(), trained.shapes, given, whole), axes), axes


def mean_of_affinities(trained: TrainedModel, raw: np.ndarray) -> np.ndarray:
    """The mean over the copies; in a flipped one, an affinity is found at the other voxel."""
    copies = list(flipped_copies(trained, raw))
    channels = []
    for number, offset in enumerate(OFFSETS):
        along = next(axis for axis in (-3, -2, -1) if offset[axis])
        moved = [
            np.roll(output[number], -offset[along], along) if along in axes else output[number]
            for output, axes in copies
        ]
        channels.append(np.mean(moved, axis=0))
    return np.stack(channels)


@pytest.mark.parametrize(
    ("network", "offsets", "shape"),
    [
        (IN_PLANE, OFFSETS, (8, 10, 8)),
        (TIME_NETWORKS["time kept"], OFFSETS, (2, 8, 10, 8)),
        (TIME_NETWORKS["time kept"], [[0, *offset] for offset in OFFSETS], (2, 8, 10, 8)),
    ],
    ids=["super-resolution", "time", "time with offsets in it"],
)
def test_it_is_the_mean_over_flipped_volumes(
    network: dict[str, Any], offsets: list[list[int]], shape: tuple[int, ...], tmp_path: Path
) -> None:
    trained = opened(tmp_path, network, offsets)
    raw = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    options = {**OPTIONS, "block_shape": OPTIONS["block_shape"][-raw.ndim :]}
    names = {"axis_names": ["t", "z", "y", "x"][-raw.ndim :]}
    augmented = bp.predict(trained, raw, **options, **names).data
    expected = mean_of_affinities(trained, raw)
    # What `roll` brings in from the other end of the volume is left out.
    inside = (..., *[slice(3, -3)] * 3)
    np.testing.assert_allclose(augmented[inside], expected[inside], atol=1e-5)
