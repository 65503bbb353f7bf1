"""Where a run's output lies for each reader, against the ROI in nm that was asked for."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import ome_zarr_models
import pytest
import zarr
from funlib.geometry import Coordinate, Roi
from funlib.persistence import open_ds

from tests.support.networks import save_network
from tests.support.runs import predict, write_volume
from tests.support.viewers import neuroglancer_n5, neuroglancer_zarr

VOXEL = (16, 8, 8)
BEGIN, SHAPE = (160, 96, 32), (12, 10, 14)
ROI = "[160:352,96:176,32:144]"


def run(folder: Path, format_: str, **network: Any) -> Path:
    """Predict a ROI of a volume that does not begin at 0; returns the output."""
    weights, architecture = save_network(folder, **network)
    data = np.random.default_rng(0).integers(0, 256, (40, 36, 33), np.uint8)
    volume = write_volume(folder / "volume.zarr", data, VOXEL, offset=(-16, 40, -40))
    output = folder / ("out.n5" if format_ == "n5" else "out.zarr") / "affs" / "s0"
    predict(
        *("run", "--checkpoint", weights, "--architecture", architecture, "--input", volume),
        *("--output", output, "--format", format_, "--roi", ROI, "--device", "cpu"),
    )
    return output


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("format_", ["zarr2", "zarr3"])
def test_readers_of_zarr_find_the_roi(format_: str, scale: int, tmp_path: Path) -> None:
    network = {} if scale == 1 else {"upsample_factors": [[2, 2, 2]]}
    output = run(tmp_path, format_, **network)
    voxel = Coordinate(VOXEL) / scale

    array = open_ds(output)
    assert array.roi == Roi(BEGIN, Coordinate(VOXEL) * Coordinate(SHAPE))
    assert array.voxel_size == voxel

    group = ome_zarr_models.open_ome_zarr(zarr.open_group(output.parent, mode="r"))
    holder = group.attributes if format_ == "zarr2" else group.attributes.ome
    size, shift = holder.multiscales[0].datasets[0].coordinateTransformations
    assert tuple(size.scale) == (1, *voxel)
    half = [(own - given) / 2 for own, given in zip(voxel, VOXEL, strict=True)]
    assert tuple(shift.translation) == (0, *(b + h for b, h in zip(BEGIN, half, strict=True)))

    # neuroglancer shows the input half of its voxel earlier too: they lie on each other.
    _, shown_voxel, begin, end = neuroglancer_zarr(output.parent)
    assert shown_voxel[1:] == [*voxel]
    assert begin[1:] == [Fraction(b) - Fraction(v, 2) for b, v in zip(BEGIN, VOXEL, strict=True)]
    extent = Coordinate(VOXEL) * Coordinate(SHAPE)
    assert [e - b for b, e in zip(begin, end, strict=True)][1:] == [*extent]


def test_readers_of_n5_find_the_roi(tmp_path: Path) -> None:
    output = run(tmp_path, "n5")
    attributes = json.loads((output / "attributes.json").read_text())
    assert attributes["dimensions"][::-1] == [2, *SHAPE]
    assert attributes["offset"][::-1] == [0, *BEGIN]
    assert attributes["resolution"][::-1] == [1, *VOXEL]
    assert attributes["transform"]["translate"] == [*BEGIN]
    axes, size = neuroglancer_n5(output)
    assert (axes, size) == (["x", "y", "z", "c"], [*VOXEL[::-1], 1])
