"""Runs of networks that are known by their program alone, held to one pass of the network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from blockwise_predict.checkpoint import open_checkpoint
from tests.support.programs import (
    KNOWN,
    Classifying,
    Gated,
    Halving,
    Known,
    Positioned,
    Same,
    Twofold,
    lively,
    save_exported,
    save_onnx,
    save_script,
)
from tests.support.runs import predict, read_output, write_volume

SHAPES = {"2-D": (45, 38)}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def volume_for(known: Known, shape: tuple[int, ...]) -> np.ndarray:
    """A random volume, `[C, *spatial]`."""
    return np.random.default_rng(0).integers(0, 256, (known.channels, *shape), np.uint8)


def run_over(file: Path, data: np.ndarray, folder: Path, *options: str) -> np.ndarray:
    """`predict run` of a network's file over a volume."""
    shape = data.shape[1:]
    stored = data[0] if len(data) == 1 else data
    volume = write_volume(folder / "volume.zarr", stored, (10,) * len(shape))
    output = f"{folder}/out.zarr/out"
    chunk = ",".join(["16"] * len(shape))
    predict(
        *("run", "--checkpoint", file, "--input", volume, "--output", output, "--device", "cpu"),
        *("--precision", "float32", "--chunk-shape", chunk, "--block-shape", chunk),
        *("--activation", "none", "--normalize", "auto", *options),
    )
    return read_output(output)


@pytest.mark.parametrize("dynamic", [True, False], ids=["any size", "one size"])
@pytest.mark.parametrize("save", [save_onnx, save_exported])
def test_other_kinds_of_programs_are_predicted_exactly(
    save: Callable[..., Path], dynamic: bool, tmp_path: Path
) -> None:
    """A network with padding, and pooling; of one size, all tiles are on one lattice."""
    known = KNOWN["same, 2-D"]
    network = lively(known.network())
    suffix = {save_onnx: ".onnx", save_exported: ".pt2"}[save]
    file = save(network, tmp_path / f"net{suffix}", (1, 40, 44), dynamic=dynamic)
    shapes = open_checkpoint(file).shapes
    assert shapes.equivariant == dynamic
    if not dynamic:
        assert shapes.valid_input_shape((1, 1), "up") == (40, 44)
    data = volume_for(known, (45, 38))
    predicted = run_over(file, data, tmp_path)
    expected = known.one_pass(network, data.astype(np.float32) / 255)
    np.testing.assert_allclose(predicted, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", [name for name in KNOWN if name != "same, 2-D"])
def test_a_program_is_predicted_exactly(name: str, tmp_path: Path) -> None:
    known = KNOWN[name]
    network = lively(known.network())
    file = save_script(network, tmp_path / "net.ts")
    shapes = open_checkpoint(file).shapes
    assert (shapes.context, shapes.scale) == (known.context, known.scale)
    assert shapes.period == (known.period,) * shapes.dims
    data = volume_for(known, SHAPES.get(name, (29, 23, 20)))
    predicted = run_over(file, data, tmp_path)
    expected = known.one_pass(network, data.astype(np.float32) / 255)
    np.testing.assert_allclose(predicted, expected, atol=1e-5 * np.abs(expected).max())


def test_a_2d_program_predicts_the_slices_of_a_volume(tmp_path: Path) -> None:
    known = KNOWN["2-D"]
    network = lively(known.network())
    file = save_script(network, tmp_path / "net.ts")
    data = volume_for(known, (3, 30, 27))
    predicted = run_over(file, data, tmp_path)
    for z in range(3):
        expected = known.one_pass(network, data[:, z].astype(np.float32) / 255)
        np.testing.assert_allclose(predicted[:, z], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (Same(2, norm=True), "at a tile's edge changes the output"),
        (Gated(), "at a tile's edge changes the output"),
        (Positioned(), "depend on the position in the tile"),
        (Halving(), "has fewer voxels than their input"),
        (Classifying(), "one answer for a whole image"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_is_not_exact_is_refused_with_the_evidence(
    network: nn.Module, reason: str, tmp_path: Path
) -> None:
    file = save_script(lively(network), tmp_path / "net.ts")
    volume = write_volume(tmp_path / "volume.zarr", np.zeros((40, 40), np.uint8), (10, 10))
    said = predict(
        *("run", "--checkpoint", file, "--input", volume, "--output", f"{tmp_path}/out.zarr/out"),
        code=2,
    )
    assert reason in said
    assert str(file) in said
    assert not (tmp_path / "out.zarr").exists()


def test_several_outputs_become_several_arrays(tmp_path: Path) -> None:
    network = lively(Twofold())
    file = save_script(network, tmp_path / "net.ts")
    data = np.random.default_rng(0).integers(0, 256, (37, 41), np.uint8)
    volume = write_volume(tmp_path / "volume.zarr", data, (10, 10))
    output = f"{tmp_path}/out.zarr/out"
    predict(
        *("run", "--checkpoint", file, "--input", volume, "--output", output, "--device", "cpu"),
        *("--precision", "float32", "--chunk-shape", "16,16", "--border", "valid"),
        *("--activation", "none", "--normalize", "auto"),
        *(
            "--output-dtype",
            "affinities=float32,distances=int8",
            "--output-range",
            "distances=-4,4",
        ),
    )
    with torch.inference_mode():
        expected = network(torch.from_numpy(data[None, None].astype(np.float32) / 255))
    affinities = expected["affinities"][0].numpy()
    np.testing.assert_allclose(read_output(f"{output}/affinities"), affinities, atol=1e-5)
    distances = read_output(f"{output}/distances")
    assert distances.dtype == np.int8
    decoded = (distances.astype(np.float32) + 128) * 8 / 255 - 4
    np.testing.assert_allclose(decoded, -affinities, atol=4 / 255 + 1e-5)
