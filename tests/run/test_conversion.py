"""A TIFF stack is refused by a run, converted, and predicted as a precomputed volume is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile

from blockwise_predict.io import open_input
from tests.support.arrays import write_precomputed
from tests.support.networks import save_network
from tests.support.runs import predict, read_output


def test_convert_and_run(tmp_path: Path) -> None:
    weights, architecture = save_network(tmp_path)
    raw = np.random.default_rng(0).integers(0, 256, (20, 30, 25), np.uint8)
    tifffile.imwrite(tmp_path / "stack.tif", raw, compression="zlib")
    network = ("--checkpoint", weights, "--architecture", architecture, "--device", "cpu")

    def run(volume: object, name: str, code: int = 0) -> str:
        output = ("--output", f"{tmp_path}/{name}.zarr/out")
        return predict("run", *network, "--input", volume, *output, code=code)

    stack = tmp_path / "stack.tif"
    text = run(stack, "never", code=2)
    assert f"Run predict convert {stack} volume.zarr/raw first" in text
    volume = tmp_path / "volume.zarr" / "raw"
    size = ("--voxel-size", "10,10,10")
    text = predict("convert", stack, volume, *size)
    assert f"written to {volume}" in text
    assert "already" in predict("convert", stack, volume, *size)
    assert "--overwrite" in predict("convert", stack, volume, "--voxel-size", "9,9,9", code=2)
    np.testing.assert_array_equal(open_input(volume).read((0, 0, 0), raw.shape)[0], raw)
    run(volume, "converted")
    size = {"resolution": [10, 10, 10]}
    run(write_precomputed(tmp_path, "precomputed-sharded", raw, **size), "precomputed")
    found, same = (
        read_output(f"{tmp_path}/{name}.zarr/out") for name in ("converted", "precomputed")
    )
    assert found.std() > 0
    np.testing.assert_array_equal(found, same)
