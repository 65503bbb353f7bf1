"""Runs over input that is resampled to the network's voxel size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from funlib.geometry import Coordinate, Roi

import blockwise_predict as bp
from blockwise_predict.checkpoint import open_checkpoint
from blockwise_predict.io import open_output
from tests.support.arrays import write_array
from tests.support.networks import save_network
from tests.support.reference import Held, one_pass
from tests.support.runs import predict, read_output, write_volume


def halved(data: np.ndarray, axis: int) -> np.ndarray:
    """Voxels twice as long along an axis, antialiased by torch."""
    rows = torch.from_numpy(np.moveaxis(data, axis, -1).astype(np.float64))[:, None]
    options = {"mode": "bilinear", "antialias": True, "scale_factor": (1, 0.5)}
    return np.moveaxis(torch.nn.functional.interpolate(rows, **options)[:, 0].numpy(), -1, axis)


def stretched(data: np.ndarray, factor: int, axis: int) -> np.ndarray:
    """`factor` voxels along an axis for each, interpolated by numpy."""
    size = data.shape[axis]
    places = (np.arange(size * factor) + 0.5) / factor - 0.5
    return np.apply_along_axis(lambda row: np.interp(places, range(size), row), axis, data)


def expected_of(folder: Path, resampled: np.ndarray, scale: float, roi: Roi) -> np.ndarray:
    """One pass of the network in a folder over a volume that is resampled."""
    model = open_checkpoint(folder / "weights.pt", architecture=folder / "architecture.yaml")
    held = Held((resampled / scale).astype(np.float32)[None])
    found = one_pass(model.build(), model.shapes, held, roi)
    assert found.std() > 1e-3
    return found


@pytest.mark.parametrize(("kind", "dtype"), [("zarr2", "uint8"), ("n5", "uint16")])
def test_blocks_equal_one_pass_over_an_independently_resampled_volume(
    tmp_path: Path, kind: str, dtype: str
) -> None:
    highest = np.iinfo(dtype).max
    data = np.random.default_rng(0).integers(0, highest, (12, 56, 50), dtype)
    attributes = {"voxel_size": [12, 4, 4], "offset": [100, 52, -8], "units": ["nm"] * 3}
    if kind == "n5":
        attributes = {"resolution": [4, 4, 12], "offset": [-8, 52, 100], "units": ["nm"] * 3}
    path = write_array(tmp_path, kind, data, attributes)
    weights, architecture = save_network(tmp_path)
    output = f"{tmp_path}/out.zarr/out"
    options = [
        *("--checkpoint", weights, "--architecture", architecture, "--input", path),
        *("--output", output, "--device", "cpu", "--precision", "float32"),
        *("--chunk-shape", "8,8,8", "--block-shape", "16,8,16", "--model-voxel-size", "4,8,8"),
        *("--roi", "[110:227,60:270,-8:190]"),
    ]
    assert "--resample" in predict("run", *options, code=2)
    planned = " ".join(predict("plan", *options, "--resample").split())
    assert f"resampled from 12 x 56 x 50 {dtype} of 12 x 4 x 4 nm" in planned
    predict("run", *options, "--resample")

    roi = Roi((2, 1, 0), (30, 27, 25))
    resampled = stretched(halved(halved(data, 1), 2), 3, 0)
    expected = expected_of(tmp_path, resampled, highest, roi)
    np.testing.assert_allclose(read_output(output), expected, rtol=0, atol=1e-5)
    written = open_output(output)
    assert written.roi == Roi((108, 60, -8), Coordinate(30, 27, 25) * Coordinate(4, 8, 8))
    # For readers that take a translation for a centre, it begins where the stored voxels do.
    level = zarr.open_group(f"{tmp_path}/out.zarr").attrs["ome"]["multiscales"][0]["datasets"][0]
    assert level["coordinateTransformations"][1]["translation"] == [0, 104, 62, -6]
    source = zarr.open_array(output, mode="r").attrs["blockwise_predict"]["input"]
    assert source["shape"] == [36, 28, 25]
    assert source["resampled_from"] | {"filter": "", "chunk_shape": []} == {
        "shape": [12, 56, 50],
        "chunk_shape": [],
        "dtype": dtype,
        "voxel_size": ["12", "4", "4"],
        "filter": "",
    }
    assert "3 blocks were computed again" in predict("verify", output, "--sample", 3)
    assert "holds all" in predict("run", *options, "--resample")
    refused = predict("run", *options, "--allow-voxel-size-mismatch", code=2)
    assert "voxel size: was ['4', '8', '8'], is now ['12', '4', '4']" in refused


def test_empty_and_masked_blocks_are_left_out(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(1, 256, (16, 48, 16), np.uint8)
    # The new voxels under 160 nm, of the second block, are the context of the first one.
    data[:, :34] = 0
    path = write_volume(tmp_path / "raw.zarr", data)
    mask = write_volume(tmp_path / "mask.zarr", np.uint8([[[1], [0], [1]]]), (160, 160, 160))
    weights, architecture = save_network(tmp_path)
    output = f"{tmp_path}/out.zarr/out"
    options = [
        *("--checkpoint", weights, "--architecture", architecture, "--input", path),
        *("--device", "cpu", "--precision", "float32", "--model-voxel-size", "10,20,5"),
        *("--resample", "--chunk-shape", "16,8,16", "--block-shape", "16,8,16"),
        *("--output", output, "--mask", mask, "--skip-empty"),
    ]
    said = predict("run", *options)
    assert "sampled chunks" in said
    states = bp.open_output(output).blocks.counts
    assert (states["done"] + states["filled"], states["empty"], states["masked"]) == (2, 2, 2)
    written = read_output(output)
    assert not written[:, :, :16].any()
    roi = Roi((0, 16, 0), (16, 8, 32))
    expected = expected_of(tmp_path, stretched(halved(data, 1), 2, 2), 255, roi)
    np.testing.assert_allclose(written[:, :, 16:], expected, rtol=0, atol=1e-5)
