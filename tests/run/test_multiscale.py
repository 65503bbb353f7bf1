"""Runs over a multiscale group."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import zarr
from funlib.geometry import Coordinate, Roi

from blockwise_predict.checkpoint import open_checkpoint
from tests.support.networks import save_network
from tests.support.pyramids import downsampled, multiscale, scaled, write_group, write_pyramid
from tests.support.reference import Held, one_pass
from tests.support.runs import predict, read_output


def test_the_networks_level_is_predicted_and_kept(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 1 << 16, (44, 40, 38), np.uint16)
    group = write_pyramid(tmp_path / "image.zarr", data)
    weights, architecture = save_network(tmp_path)
    output = f"{tmp_path}/out.zarr/out"
    options = [
        *("--checkpoint", weights, "--architecture", architecture, "--input", group),
        *("--output", output, "--device", "cpu", "--precision", "float32"),
    ]
    refused = predict("run", *options, code=2)
    assert "s1: 8 x 8 x 8 nm, 22 x 20 x 19 voxels" in refused
    options += ["--model-voxel-size", "8,8,8"]
    said = " ".join(predict("run", *options).split())
    reason = "the network was trained at 8 x 8 x 8 nm (--model-voxel-size)"
    assert f"level s1 of {group} is read: {reason}" in said
    attributes = zarr.open_array(output, mode="r").attrs
    assert attributes["offset"] == [1042, 2, 2]
    source = attributes["blockwise_predict"]["input"]
    assert source["path"] == f"{group}/s1"
    assert source["level"] == {"group": str(group), "path": "s1", "reason": reason}
    predict("verify", output)

    model, level = open_checkpoint(weights, architecture=architecture), downsampled(data)
    held = Held((level.astype(np.float32) / 65535)[None])
    roi = Roi((0, 0, 0), Coordinate(level.shape))
    expected = one_pass(model.build(), model.shapes, held, roi)
    assert expected.std() > 1e-3
    np.testing.assert_allclose(read_output(output), expected, rtol=0, atol=1e-5)

    # A level that is added later, before the others, is not read by a run that began without it.
    metadata = json.loads((group / ".zattrs").read_text())
    metadata["multiscales"][0]["datasets"].insert(
        0, {"path": "s2", "coordinateTransformations": scaled((8, 8, 8))}
    )
    (group / ".zattrs").write_text(json.dumps(metadata))
    assert "holds all" in predict("run", *options)


def test_inspect_lists_the_levels(tmp_path: Path) -> None:
    levels = {"s0": scaled((4, 4, 4)), "gone": scaled((8, 8, 8))}
    arrays = {"s0": np.zeros((9, 10, 11), np.uint8)}
    group = write_group(tmp_path / "image.zarr", arrays, [multiscale(levels)], "0.5")
    said = " ".join(predict("inspect", group).split())
    assert "level s0 4 x 4 x 4 nm, 9 x 10 x 11 voxels" in said
    assert f"level gone {group}/gone: there is no zarr, N5 or precomputed array" in said
