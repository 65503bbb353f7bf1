"""Whole runs of every kind of network and border, held to one forward pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from funlib.geometry import Coordinate, Roi

from blockwise_predict.checkpoint import open_checkpoint
from tests.support.networks import save_network
from tests.support.reference import Held, one_pass
from tests.support.runs import predict, read_output, write_volume

TWO_D: dict[str, Any] = {"input_shape": [20, 20], "downsample_factors": [[2, 2]]}


class Volume:
    """A random volume with a network for it, and the options that name both."""

    def __init__(self, folder: Path, shape: tuple[int, ...], **network: Any) -> None:
        weights, architecture = save_network(folder, **network)
        self.trained = open_checkpoint(weights, architecture=architecture)
        channels = network.get("fmaps_in", 1)
        stored = shape if channels == 1 else (channels, *shape)
        self.data = np.random.default_rng(0).integers(0, 256, stored, np.uint8)
        voxel = (10,) * len(shape)
        volume = write_volume(folder / "volume.zarr", self.data, voxel)
        self.output = str(folder / "out.zarr" / "out")
        self.options = [
            *("--checkpoint", weights, "--architecture", architecture, "--input", volume),
            *("--output", self.output, "--device", "cpu", "--precision", "float32"),
        ]

    def one_pass(self) -> np.ndarray:
        """The whole volume in one forward pass, mirrored at its border."""
        scaled = self.data.astype(np.float32) / 255
        held = Held(scaled.reshape(-1, *self.data.shape[-len(self.trained.shapes.period) :]))
        roi = Roi((0,) * len(held.shape), Coordinate(held.shape))
        roi *= Coordinate(self.trained.shapes.scale)
        return one_pass(self.trained.build(), self.trained.shapes, held, roi)


@pytest.mark.parametrize(
    ("shape", "chunk", "network"),
    [
        ((40, 36, 33), "16,8,12", {"downsample_factors": [[1, 2, 2], [2, 2, 2]]}),
        ((30, 27, 25), "16,16,16", {"fmaps_in": 2, "batch_norm": True}),
        ((22, 19, 20), "16,24,16", {"upsample_factors": [[2, 2, 2]], "constant_upsample": False}),
        ((70, 61), "32,16", TWO_D),
    ],
    ids=["anisotropic", "two channels", "super-resolution", "2-D"],
)
def test_a_run_equals_one_forward_pass(
    shape: tuple[int, ...], chunk: str, network: dict[str, Any], tmp_path: Path
) -> None:
    volume = Volume(tmp_path, shape, **network)
    predict("run", *volume.options, "--chunk-shape", chunk, "--block-shape", chunk)
    expected = volume.one_pass()
    tolerance = 1e-5 * np.abs(expected).max()
    np.testing.assert_allclose(read_output(volume.output), expected, rtol=0, atol=tolerance)


def test_a_2d_network_predicts_every_slice_of_a_volume(tmp_path: Path) -> None:
    volume = Volume(tmp_path, (5, 40, 37), **TWO_D)
    predict("run", *volume.options, "--chunk-shape", "2,16,16")
    predicted = read_output(volume.output)
    whole = volume.data
    for z in range(5):
        volume.data = whole[z]
        np.testing.assert_allclose(predicted[:, z], volume.one_pass(), atol=1e-5)


def test_a_network_with_attention_is_announced(tmp_path: Path) -> None:
    volume = Volume(tmp_path, (60, 50), **TWO_D, use_attention=True)
    output = predict("run", *volume.options)
    assert (
        "Warning: attention makes this network's output depend on the position of its tile"
        in output
    )
    assert np.isfinite(read_output(volume.output)).all()


def test_border_valid_predicts_what_has_its_context(tmp_path: Path) -> None:
    volume = Volume(tmp_path, (40, 36, 33))
    output = predict("run", *volume.options, "--border", "valid")
    # Context 8 on each side, rounded inward to whole periods of 2.
    assert "[80:320,80:280,80:240] nm" in output
    expected = volume.one_pass()[:, 8:32, 8:28, 8:24]
    np.testing.assert_allclose(read_output(volume.output), expected, atol=1e-5)


def test_a_roi_off_the_voxel_grid_is_snapped_with_a_line(tmp_path: Path) -> None:
    volume = Volume(tmp_path, (40, 36, 33))
    planned = predict("plan", *volume.options, "--roi", "[3:155,100:,:330.5]")
    output = " ".join(planned.split())
    assert "snapped outward to [0:160,100:360,0:340]" in output
    assert "reaches beyond the volume: cut to [0:160,100:360,0:330]" in output
    assert "[0:160,100:360,0:330] nm = 16 x 26 x 33 voxels" in output
