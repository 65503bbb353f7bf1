"""Runs of networks with a time axis over volumes with one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from funlib.geometry import Roi

import blockwise_predict as bp
from blockwise_predict.checkpoint import open_checkpoint
from blockwise_predict.engine import precision
from tests.support.movies import write_movie
from tests.support.networks import save_network
from tests.support.reference import Held, one_pass
from tests.support.runs import predict, read_output
from tests.support.time_networks import TIME_NETWORKS, KeepingTime

MOVIE = np.random.default_rng(0).integers(0, 256, (7, 14, 20, 18), np.uint8)
"""Of 7 frames, 0.5 s apart from 10 s on; voxels of 8 x 4 x 4 nm from z = 40 nm on."""


@pytest.mark.parametrize(
    ("name", "lengths", "block"),
    [("time dropped at the deepest level", [1, 1, 1, 1], 1), ("time kept", [4], 2)],
)
def test_a_run_equals_one_forward_pass(
    name: str, lengths: list[int], block: int, tmp_path: Path
) -> None:
    weights, architecture = save_network(tmp_path, **TIME_NETWORKS[name])
    movie, output = write_movie(tmp_path, "zarr3", MOVIE, "tzyx"), str(tmp_path / "out.zarr/affs")
    # Off the voxel grid in time and in space: frames 1 to 5.
    options = ("--device", "cpu", "--precision", "float32", "--chunk-shape", "1,8,8,8")
    arguments = [
        *("--checkpoint", weights, "--architecture", architecture, "--input", movie),
        *("--output", output, "--roi", "[10.6:12.4,60:140,7:70,9:65]", *options),
    ]
    planned = " ".join(predict("plan", *arguments).split())
    assert "4 x 11 x 17 x 15 voxels" in planned
    assert f" of {block} x " in planned
    predict("run", *arguments)
    trained = open_checkpoint(weights, architecture=architecture)
    model, volume = KeepingTime(trained.build()), Held(MOVIE[None] / np.float32(255))
    begins = np.cumsum([1, *lengths[:-1]])
    expected = np.concatenate(
        [
            one_pass(model, trained.shapes, volume, Roi((begin, 2, 1, 2), (length, 11, 17, 15)))
            for begin, length in zip(begins, lengths, strict=True)
        ],
        axis=1,
    )
    found = read_output(output)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    assert "computed again" in predict("verify", output, "--sample", "2")


def test_a_given_tile_has_a_length_that_the_network_takes(tmp_path: Path) -> None:
    weights, architecture = save_network(tmp_path, **TIME_NETWORKS["time dropped at once"])
    movie = write_movie(tmp_path, "zarr3", MOVIE, "tzyx")
    arguments = [
        *("--checkpoint", weights, "--architecture", architecture, "--input", movie),
        *("--output", str(tmp_path / "out.zarr/affs"), "--device", "cpu"),
    ]
    refused = predict("plan", *arguments, "--tile-shape", "5,24,24,24", code=2)
    assert "Nearest valid shape: 3,24,24,24" in " ".join(refused.split())
    assert "3 x 24 x 24 x 24" in " ".join(
        predict("plan", *arguments, "--tile-shape", "3,24,24,24").split()
    )


def test_a_volume_without_time_is_refused(tmp_path: Path) -> None:
    weights, architecture = save_network(tmp_path, **TIME_NETWORKS["time dropped at once"])
    volume = write_movie(tmp_path, "zarr3", MOVIE[0], "zyx")
    refused = predict(
        *("plan", "--checkpoint", weights, "--architecture", architecture, "--input", volume),
        *("--output", str(tmp_path / "out.zarr/affs")),
        code=2,
    )
    assert "has 3 spatial axes (14, 20, 18), but" in " ".join(refused.split())


def test_the_precision_is_tried_on_a_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of a network that keeps time."""
    monkeypatch.setattr(precision, "fast_precisions", lambda _: ("bfloat16",))
    weights, architecture = save_network(tmp_path, **TIME_NETWORKS["time kept"])
    movie = write_movie(tmp_path, "zarr3", MOVIE, "tzyx")
    result = bp.predict(str(weights), movie, architecture=str(architecture), progress=False)
    assert result.data.shape == (2, *MOVIE.shape)
    assert torch.isfinite(torch.from_numpy(result.data)).all()
