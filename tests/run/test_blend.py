"""Blended runs, held to MONAI's own sliding window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.inferers.utils import sliding_window_inference

import blockwise_predict as bp
from blockwise_predict.checkpoint import open_checkpoint
from tests.support.networks import save_network
from tests.support.programs import Same, lively, save_script
from tests.support.runs import predict, read_output, stored_bytes, write_volume

TILE = 16


@dataclass(frozen=True)
class Case:
    """A random volume, a network with same padding, and the options of a run over it."""

    raw: np.ndarray
    network: torch.nn.Module
    options: tuple[object, ...]


def make_case(folder: Path, shape: Sequence[int], **network: object) -> Case:
    dims = len(shape)
    settings = {"input_shape": [TILE] * dims, "downsample_factors": [[2] * dims], **network}
    weights, architecture = save_network(folder, padding="same", **settings)
    raw = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    volume = write_volume(folder / "raw.zarr", raw, (10,) * dims)
    options = (
        *("run", "--checkpoint", weights, "--architecture", architecture, "--input", volume),
        *("--device", "cpu", "--precision", "float32", "--blend"),
    )
    return Case(raw, open_checkpoint(weights, architecture=architecture).build(), options)


def monai_blended(network: torch.nn.Module, raw: np.ndarray, overlap: float = 0.5) -> np.ndarray:
    """MONAI's blending of a whole volume (stored as uint8) on tiles of `TILE` voxels."""
    volume = torch.from_numpy(raw.astype(np.float32) / 255)[None, None]
    with torch.inference_mode():
        blended = sliding_window_inference(
            volume, (TILE,) * raw.ndim, 1, network, overlap=overlap, mode="gaussian"
        )
    return blended[0].numpy()


@pytest.mark.parametrize(
    ("shape", "overlap"), [((32, 24, 40), 0.5), ((29, 21, 37), 0.5), ((27, 33), 0.3)]
)
def test_inside_the_volume_blending_is_monais(
    shape: tuple[int, ...], overlap: float, tmp_path: Path
) -> None:
    case = make_case(tmp_path, shape)
    expected = monai_blended(case.network, case.raw, overlap)
    written = []
    for chunk in (9, 16):
        output = f"{tmp_path}/{chunk}.zarr/out"
        sizes = ("--chunk-shape", ",".join([str(chunk)] * len(shape)))
        options = ("--border", "valid", "--overlap", overlap, *sizes, "--output", output)
        predict(*case.options, *options)
        written.append(read_output(output))
    np.testing.assert_allclose(written[0], expected, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_array_equal(written[0], written[1])


def test_beyond_the_border_tiles_see_the_fill_and_the_roi_changes_no_voxel(tmp_path: Path) -> None:
    case = make_case(tmp_path, (29, 30, 33))
    mirrored = np.pad(case.raw, [(8, 11), (8, 10), (8, 15)], "reflect")
    expected = monai_blended(case.network, mirrored)[:, 8:, 8:, 8:]
    output = f"{tmp_path}/out.zarr/out"
    options = ("--roi", "[30:250,0:170,110:310]", "--chunk-shape", "8,8,8", "--workers", 2)
    printed = predict(*case.options, *options, "--output", output)
    assert "keep both the same for all parts of a volume" in printed
    expected = expected[:, 3:25, :17, 11:31]
    np.testing.assert_allclose(read_output(output), expected, atol=1e-5 * np.abs(expected).max())


def test_a_2d_network_is_blended_slice_by_slice(tmp_path: Path) -> None:
    case = make_case(tmp_path, (24, 32))
    raw = np.random.default_rng(1).integers(0, 256, (3, 24, 32), np.uint8)
    volume = write_volume(tmp_path / "slices.zarr", raw)
    output = f"{tmp_path}/out.zarr/out"
    predict(*case.options, "--input", volume, "--border", "valid", "--output", output)
    expected = np.stack([monai_blended(case.network, slice_) for slice_ in raw], axis=1)
    np.testing.assert_allclose(read_output(output), expected, atol=1e-5 * np.abs(expected).max())


def test_blending_a_network_without_padding_changes_nothing(tmp_path: Path) -> None:
    weights, architecture = save_network(tmp_path)
    raw = np.random.default_rng(0).integers(0, 256, (25, 21, 30), np.uint8)
    trained = bp.open_checkpoint(weights, architecture=architecture)
    plain, blended = (
        bp.predict(trained, raw, precision="float32", progress=False, **options).data
        for options in ({}, {"blend": True, "tile_shape": "24,20,22", "overlap": 0.6})
    )
    np.testing.assert_allclose(blended, plain, atol=1e-5 * np.abs(plain).max())


def test_a_program_with_instance_norm_has_one_value_per_voxel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    network = lively(Same(dims=2, norm=True))
    file = save_script(network, tmp_path / "net.ts")
    trained = bp.open_checkpoint(file, activation="none")
    raw = np.random.default_rng(0).integers(0, 256, (59, 46), np.uint8)
    expected = monai_blended(network, raw)
    options = {"precision": "float32", "progress": False, "normalize": "auto", "border": "valid"}
    options |= {"blend": True, "tile_shape": f"{TILE},{TILE}"}
    whole = bp.predict(trained, raw, **options).data
    np.testing.assert_allclose(whole, expected, atol=1e-5 * np.abs(expected).max())
    part = bp.predict(trained, raw, roi="[3:52,7:46]", block_shape="6,10", **options)
    np.testing.assert_array_equal(part.data, whole[:, 3:52, 7:46])


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    case = make_case(tmp_path, (15, 40, 40))
    options = ("--output", f"{tmp_path}/out.zarr/out")
    assert "an axis of 15 input voxels has no room for a tile of 16" in predict(
        *case.options, *options, "--border", "valid", code=2
    )
    assert "Nearest valid shape: 16,16,16" in predict(
        *case.options, *options, "--tile-shape", "15,16,16", code=2
    )
    assert "--overlap 0.99" in predict(*case.options, *options, "--overlap", "0.99", code=2)


def test_a_run_is_resumed_with_the_same_overlap_only(tmp_path: Path) -> None:
    case = make_case(tmp_path, (24, 24, 24))
    options = ("--output", f"{tmp_path}/out.zarr/out")
    predict(*case.options, *options)
    before = stored_bytes(f"{tmp_path}/out.zarr/out")
    assert "overlap: was 0.5, is now 0.25" in predict(
        *case.options, *options, "--overlap", "0.25", code=2
    )
    predict(*case.options, *options)
    assert stored_bytes(f"{tmp_path}/out.zarr/out") == before
