"""Whole runs of other programs' networks, held to what those programs compute."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from blockwise_predict.checkpoint import open_checkpoint
from tests.support.families import (
    EXPORT,
    Recorded,
    recorded,
    seeded,
    write_cosem,
    write_fly_organelles,
    write_newer_run,
)
from tests.support.funlib_unet import UNet
from tests.support.networks import liven
from tests.support.runs import predict, read_output, write_volume

AFFINITIES = {"__type__": "AffinitiesTaskConfig", "neighborhood": [[0, 1], [-1, 0]]}


def dacapo_run(folder: Path) -> tuple[list[object], Recorded]:
    network = recorded("dacapo_newer")
    return [write_newer_run(folder, AFFINITIES, network.state)], network


def dacapo_export(folder: Path) -> tuple[list[object], Recorded]:
    network = recorded("dacapo_newer")
    shutil.copy(EXPORT, folder / "net.zip")
    # The export is of the same network without the sigmoid.
    logits = torch.from_numpy(network.output).logit().numpy()
    return [folder / "net.zip"], Recorded(network.state, network.input, logits)


def cosem(folder: Path) -> tuple[list[object], Recorded]:
    network = recorded("cosem")
    document = write_cosem(folder / "1000", network, {"upsample_factors": [[2, 2, 2]]})
    return [folder / "1000", "--architecture", document], network


def fly_organelles(folder: Path) -> tuple[list[object], Recorded]:
    network = write_fly_organelles(folder)
    options = [folder / "model_checkpoint_10", "--activation", "none"]
    return options, computed(network, seeded(1, 1, 130, 130, 130))


def funlib(folder: Path) -> tuple[list[object], Recorded]:
    settings = {
        "num_fmaps": 3,
        "fmap_inc_factor": 2,
        "downsample_factors": [[1, 2, 2], [2, 2, 3]],
        "constant_upsample": True,
    }
    network = liven(UNet(in_channels=1, **settings)).eval()
    torch.save(network.state_dict(), folder / "unet.pt")
    described = {"input_shape": [38, 50, 58], "fmaps_in": 1, "fmaps_out": 3, **settings}
    (folder / "arch.yaml").write_text(yaml.safe_dump(described))
    options = [folder / "unet.pt", "--architecture", folder / "arch.yaml"]
    return options, computed(network, seeded(1, 1, 26, 52, 66))


def computed(network: torch.nn.Module, x: np.ndarray) -> Recorded:
    with torch.inference_mode():
        return Recorded({}, x, network(torch.from_numpy(x)).numpy())


@pytest.mark.parametrize("write", [dacapo_run, dacapo_export, cosem, fly_organelles, funlib])
def test_a_run_gives_what_the_networks_own_program_computes(write, tmp_path: Path) -> None:
    checkpoint, network = write(tmp_path)
    path, *options = checkpoint
    architecture = options[1] if "--architecture" in options else None
    shapes = open_checkpoint(path, architecture=architecture).shapes
    # Passes begin where their output is at a multiple of the period. The recorded pass is one of
    # them if the volume has so many voxels before it.
    before = [
        -(low // u) % period
        for (low, _), u, period in zip(shapes.lost, shapes.scale, shapes.period, strict=True)
    ]
    raw = np.pad(network.input[0, 0], [(voxels, 1) for voxels in before], mode="wrap")
    begin = [
        voxels * u + low
        for voxels, u, (low, _) in zip(before, shapes.scale, shapes.lost, strict=True)
    ]
    end = [low + size for low, size in zip(begin, network.output.shape[2:], strict=True)]
    voxel = [8 // u for u in shapes.scale]
    sides = [f"{low * v}:{high * v}" for low, high, v in zip(begin, end, voxel, strict=True)]
    volume = write_volume(tmp_path / "raw.zarr", raw, (8,) * shapes.dims)
    output = f"{tmp_path}/out.zarr/out"
    predict(
        *("run", "--checkpoint", *checkpoint, "--input", volume, "--output", output),
        *("--device", "cpu", "--precision", "float32", "--workers", 1, "--normalize", "none"),
        *("--roi", f"[{','.join(sides)}]"),
    )
    expected = network.output[0]
    predicted = read_output(output)
    assert predicted.shape == expected.shape
    assert expected.std() > 0.01 * np.abs(expected).max()
    np.testing.assert_allclose(predicted, expected, atol=1e-5 * np.abs(expected).max())


def test_inspect_says_which_family_and_why(tmp_path: Path) -> None:
    write_fly_organelles(tmp_path)
    printed = predict("inspect", tmp_path / "model_checkpoint_10")
    assert "fly_organelles: tensors unet_backbone.* and final_conv.*" in " ".join(printed.split())
