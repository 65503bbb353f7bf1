"""The output lies at its ROI for funlib, OME-NGFF readers, neuroglancer and old N5 tools."""

from __future__ import annotations

import json

import ome_zarr_models
import pytest
import zarr
from funlib.geometry import Coordinate, Roi
from funlib.persistence import open_ds

from blockwise_predict.io import create_output, open_input
from tests.support.arrays import SIZE, lengths, output_path, output_spec
from tests.support.viewers import neuroglancer_n5, neuroglancer_zarr, neuroglancer_zarr_array

INTEGERS = {
    "voxel_size": lengths(8, 4, 4),
    "input_voxel_size": lengths(8, 4, 4),
    "offset": lengths(40, -8, 120),
}
SUPER_RESOLUTION = {
    "voxel_size": lengths(4, 2, 2),
    "input_voxel_size": lengths(8, 4, 4),
    "offset": lengths(40, -8, 120),
}


@pytest.mark.parametrize("kind", ["zarr2", "zarr3"])
@pytest.mark.parametrize("sizes", [INTEGERS, SUPER_RESOLUTION])
def test_funlib_persistence(tmp_path, kind, sizes):
    path = output_path(tmp_path, kind)
    create_output(output_spec(path, kind, **sizes))
    array = open_ds(path, strict_metadata=True)
    voxel_size = Coordinate(sizes["voxel_size"])
    assert array.voxel_size == voxel_size
    assert array.roi == Roi((40, -8, 120), Coordinate(5, 9, 14) * voxel_size)
    assert array.axis_names == ["c^", "z", "y", "x"]
    assert array.units == ["nm", "nm", "nm"]
    assert array.channel_dims == 1


def test_funlib_persistence_cuts_off_fractions(tmp_path):
    """A limit of funlib.persistence 0.7 that users must know of; the attributes are exact."""
    path = output_path(tmp_path, "zarr3")
    create_output(output_spec(path))
    assert zarr.open_array(path, mode="r").attrs["voxel_size"] == [4.24, 4, 4]
    assert open_ds(path).voxel_size == Coordinate(4, 4, 4)


@pytest.mark.parametrize("kind", ["zarr2", "zarr3"])
@pytest.mark.parametrize(
    ("sizes", "scale", "translation"),
    [
        ({}, [1, 4.24, 4, 4], [0, 42.4, -8, 120]),
        (SUPER_RESOLUTION, [1, 4, 2, 2], [0, 38, -9, 119]),
    ],
)
def test_ome_zarr_models(tmp_path, kind, sizes, scale, translation):
    path = output_path(tmp_path, kind)
    create_output(output_spec(path, kind, **sizes))
    group = ome_zarr_models.open_ome_zarr(zarr.open_group(path.parent, mode="r"))
    assert group.ome_zarr_version == ("0.4" if kind == "zarr2" else "0.5")
    holder = group.attributes if kind == "zarr2" else group.attributes.ome
    (multiscale,) = holder.multiscales
    assert [axis.name for axis in multiscale.axes] == ["c", "z", "y", "x"]
    assert [axis.unit for axis in multiscale.axes[1:]] == ["nanometer"] * 3
    (dataset,) = multiscale.datasets
    assert dataset.path == "prediction"
    first, second = dataset.coordinateTransformations
    assert list(first.scale) == scale
    assert list(second.translation) == translation


@pytest.mark.parametrize("kind", ["zarr2", "zarr3"])
@pytest.mark.parametrize("sizes", [{}, SUPER_RESOLUTION])
def test_neuroglancer_shows_zarr_where_the_input_is(tmp_path, kind, sizes):
    """Input and output are both moved half an input voxel, so they lie on each other."""
    path = output_path(tmp_path, kind)
    spec = output_spec(path, kind, **sizes)
    create_output(spec)
    names, size, begin, end = neuroglancer_zarr(path.parent)
    assert names == ["c'", "z", "y", "x"]
    assert size[1:] == list(spec.voxel_size)
    for axis in range(3):
        shift = spec.input_voxel_size[axis] / 2
        assert begin[axis + 1] == spec.offset[axis] - shift
        extent = spec.voxel_size[axis] * spec.shape[axis]
        assert end[axis + 1] == spec.offset[axis] + extent - shift


@pytest.mark.parametrize("kind", ["zarr2", "zarr3"])
def test_neuroglancer_scales_the_array_alone(tmp_path, kind):
    """Opened without its group an array has no offset, but axis names and voxel size."""
    path = output_path(tmp_path, kind)
    create_output(output_spec(path, kind))
    assert neuroglancer_zarr_array(path) == (["c", "z", "y", "x"], [1, *SIZE])


def test_neuroglancer_scales_n5(tmp_path):
    """Its N5 source knows no offset: that must come from the layer's transform."""
    path = output_path(tmp_path, "n5")
    create_output(output_spec(path, "n5"))
    axes, size = neuroglancer_n5(path)
    assert axes == ["x", "y", "z", "c"]
    assert size == [*SIZE[::-1], 1]


def test_old_funlib_and_cosem_place_n5(tmp_path):
    """`resolution` and `offset` x first; `transform` as its axes say, at the voxel's centre."""
    path = output_path(tmp_path, "n5")
    create_output(output_spec(path, "n5", **SUPER_RESOLUTION))
    attributes = json.loads((path / "attributes.json").read_text())
    assert attributes["resolution"][::-1] == [1, 4, 2, 2]
    assert attributes["offset"][::-1] == [0, 40, -8, 120]
    assert attributes["transform"] == {
        "axes": ["z", "y", "x"],
        "scale": [4, 2, 2],
        "translate": [38, -9, 119],
        "units": ["nm", "nm", "nm"],
    }
    found = open_input(path).placement
    assert found.offset == lengths(40, -8, 120)
    assert found.voxel_size == lengths(4, 2, 2)
