"""Runs of networks in the containers that people share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from funlib.geometry import Coordinate, Roi

from blockwise_predict.checkpoint import open_checkpoint
from tests.support.hub import local_hub
from tests.support.pyramids import multiscale, scaled, write_group
from tests.support.reference import Held, one_pass
from tests.support.runs import predict, read_output, write_volume
from tests.support.shared import ROOT

CELLMAP = ROOT / "tests" / "data" / "cellmap"
BIOIMAGE = ROOT / "tests" / "data" / "bioimage" / "v0_5"
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
# Those that the cellmap-models folders state.
VOXELS = (8, 8, 8)
SYMMETRIC = ("--normalize", "range:0,255,-1,1")


@pytest.mark.parametrize(
    ("kind", "activation"), [("sigmoid", ()), ("logits", ("--activation", "sigmoid"))]
)
def test_a_cellmap_folder_is_streamed(
    kind: str, activation: tuple[str, ...], tmp_path: Path
) -> None:
    data = np.random.default_rng(0).integers(0, 256, (29, 24, 23), np.uint8)
    volume, output = write_volume(tmp_path / "raw.zarr", data, VOXELS), f"{tmp_path}/out.zarr/out"
    options = [
        *("--checkpoint", CELLMAP / kind, "--input", volume, "--output", output),
        *("--device", "cpu", "--precision", "float32", "--chunk-shape", "16,16,16"),
    ]
    said = predict("plan", *options, code=2)
    assert "does not state" in said
    assert "--normalize range:0,255,-1,1 for -1 to 1" in " ".join(said.split())
    assert ("--activation sigmoid" in said) == bool(activation)
    predict("run", *options, *SYMMETRIC, *activation)
    stored = zarr.open_array(output, mode="r").attrs
    assert stored["blockwise_predict"]["checkpoint"]["package"]["author"] == "an author"

    model = open_checkpoint(CELLMAP / kind, activation="sigmoid" if activation else None)
    # The exported program takes only the shape that it was exported with.
    module = model.build() if activation else torch.jit.load(CELLMAP / kind / "model.ts").eval()
    roi = Roi((0, 0, 0), Coordinate(data.shape))
    held = Held((data.astype(np.float32) / 255 - 0.5)[None] / 0.5)
    expected = one_pass(module, model.shapes, held, roi)
    assert expected.std() > 0.05
    np.testing.assert_allclose(read_output(output), expected, rtol=0, atol=1e-5)


def test_a_bioimage_package_needs_no_options(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 256, (29, 24, 23), np.uint8)
    # Of a group, the level with the package's voxels is read.
    levels = {"s0": scaled((4, 2, 2)), "s1": scaled((8, 4, 4))}
    arrays = {"s0": np.zeros((58, 48, 46), np.uint8), "s1": data}
    group = write_group(tmp_path / "raw.zarr", arrays, [multiscale(levels)], "0.5")
    output = f"{tmp_path}/out.zarr/out"
    predict(
        *("run", "--checkpoint", BIOIMAGE, "--input", group, "--output", output),
        *("--device", "cpu", "--precision", "float32", "--chunk-shape", "16,16,16"),
    )
    record = zarr.open_array(output, mode="r").attrs["blockwise_predict"]
    assert record["activation"] == "sigmoid"
    assert record["normalization"]["rule"] == f"range:0,1,-1.0,{2 / 255 - 1!r}"
    assert record["normalization"]["scale"] == pytest.approx(2 / 255)
    assert record["checkpoint"]["package"]["license"] == "MIT"
    library = torch.jit.load(BIOIMAGE / "weights.pt").eval()
    held = Held((data.astype(np.float32) / 255 - 0.5)[None] / 0.5)
    shapes, roi = open_checkpoint(BIOIMAGE).shapes, Roi((0, 0, 0), Coordinate(data.shape))
    expected = 1 / (1 + np.exp(-one_pass(library, shapes, held, roi)))
    assert expected.std() > 0.05
    np.testing.assert_allclose(read_output(output), expected, rtol=0, atol=1e-5)


def test_a_run_keeps_the_commit_that_it_began_with(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 256, (20, 18, 18), np.uint8)
    volume, output = write_volume(tmp_path / "raw.zarr", data, VOXELS), f"{tmp_path}/out.zarr/out"
    options = [
        *("--checkpoint", "hf://cellmap/net", "--input", volume, "--output", output),
        *("--device", "cpu", "--precision", "float32", *SYMMETRIC),
    ]
    with local_hub() as hub:
        environment = {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "hub")}
        commit = hub.push("cellmap/net", CELLMAP / "sigmoid")
        said = " ".join(predict("run", *options, **environment).split())
        assert f"checkpoint hf://cellmap/net is hf://cellmap/net@{commit} in this run" in said
        record = zarr.open_array(output, mode="r").attrs["blockwise_predict"]
        assert record["checkpoint"]["package"]["hub"] == f"hf://cellmap/net@{commit}"
        assert record["config"]["checkpoint"] == f"hf://cellmap/net@{commit}"
        # A worker and the resumed run read the cache.
        hub.push("cellmap/net", CELLMAP / "logits")
        asked = len(hub.requests)
        assert "holds all" in predict("run", *options, **environment)
        assert len(hub.requests) == asked
    model = open_checkpoint(CELLMAP / "sigmoid")
    held = Held((data.astype(np.float32) / 255 - 0.5)[None] / 0.5)
    expected = one_pass(model.build(), model.shapes, held, Roi((0, 0, 0), Coordinate(data.shape)))
    np.testing.assert_allclose(read_output(output), expected, rtol=0, atol=1e-5)


def test_inspect_says_which_family_and_why() -> None:
    said = " ".join(predict("inspect", CELLMAP / "logits").split())
    assert "package cellmap-models folder" in said
    assert "trained at 8, 8, 8 nm" in said
    assert "family CNNectomeUNet: its 18 operations, with the names of its 8 layers" in said
    assert "normalization not stated in the files: a run has to declare it with --normalize" in said
    assert "activation not stated in the files: a run has to declare it with --activation" in said
    assert "channels 2: mito, er" in said
