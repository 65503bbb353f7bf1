"""The output lies at its ROI for funlib, OME-NGFF readers, neuroglancer and old N5 tools."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import ome_zarr_models
import pytest
import zarr
from funlib.geometry import Coordinate, Roi
from funlib.persistence import open_ds

from blockwise_predict.io import create_output, open_input
from tests.io_support import SIZE, lengths, output_path, output_spec

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


UNITS = {"nanometer": Fraction(1), "nm": Fraction(1)}


def neuroglancer_zarr(
    group: Path,
) -> tuple[list[str], list[Fraction], list[Fraction], list[Fraction]]:
    """Axis names, voxel size, begin and end (nm) of a group as neuroglancer shows it.

    The rules of `parseOmeMetadata` and `parseOmeMultiscale` in
    https://github.com/google/neuroglancer/blob/master/src/datasource/zarr/ome.ts: the first
    multiscale alone; the dataset's transformations, then the multiscale's; then half a voxel less.
    """
    version3 = (group / "zarr.json").exists()
    attributes = _json(group / ("zarr.json" if version3 else ".zattrs"))
    if version3:
        attributes = attributes["attributes"]["ome"]
    multiscale = attributes["multiscales"][0]
    version = attributes["version"] if version3 else multiscale["version"]
    assert version == ("0.5" if version3 else "0.4")
    axes, dataset = multiscale["axes"], multiscale["datasets"][0]
    size, shift = [Fraction(1)] * len(axes), [Fraction(0)] * len(axes)
    steps = dataset["coordinateTransformations"]
    for step in steps + multiscale.get("coordinateTransformations", []):
        if step["type"] == "scale":
            factors = lengths(*step["scale"])
            size = [s * f for s, f in zip(size, factors, strict=True)]
            shift = [s * f for s, f in zip(shift, factors, strict=True)]
        elif step["type"] == "translation":
            shift = [s + t for s, t in zip(shift, lengths(*step["translation"]), strict=True)]
    array = group / dataset["path"]
    shape = _json(array / ("zarr.json" if version3 else ".zarray"))["shape"]
    units = [UNITS[axis["unit"]] if "unit" in axis else Fraction(1) for axis in axes]
    begin = [(t - s / 2) * unit for t, s, unit in zip(shift, size, units, strict=True)]
    end = [b + s * n * u for b, s, n, u in zip(begin, size, shape, units, strict=True)]
    names = [a["name"] + ("'" if a.get("type") == "channel" else "") for a in axes]
    return names, [s * unit for s, unit in zip(size, units, strict=True)], begin, end


def neuroglancer_zarr_array(array: Path) -> tuple[list[str], list[Fraction]]:
    """Axis names and voxel size (nm) of an array without its group.

    The rules of `parseV2Metadata`, `parseV3Metadata` and `parseDimensionUnit` in
    https://github.com/google/neuroglancer/blob/master/src/datasource/zarr/metadata/parse.ts
    """
    version3 = (array / "zarr.json").exists()
    metadata = _json(array / ("zarr.json" if version3 else ".zarray"))
    attributes = metadata["attributes"] if version3 else _json(array / ".zattrs")
    names = metadata["dimension_names"] if version3 else attributes["_ARRAY_DIMENSIONS"]
    size = []
    for unit in attributes["dimension_units"]:
        number, name = unit.split() if unit is not None else ("1", "nm")
        size.append(Fraction(number) * UNITS[name])
    return names, size


def neuroglancer_n5(array: Path) -> tuple[list[str], list[Fraction]]:
    """Axis names and voxel size (nm) of an N5 array.

    The rules of `getAttributes` and `getMultiscaleMetadata` in
    https://github.com/google/neuroglancer/blob/master/src/datasource/n5/frontend.ts: attributes
    of all groups above are merged, each must have the array's rank, `pixelResolution` overrides
    `resolution`, and there is no offset.
    """
    merged: dict[str, Any] = {}
    for folder in (array.parents[1], array.parent, array):
        if (folder / "attributes.json").exists():
            merged |= _json(folder / "attributes.json")
    rank = len(merged["dimensions"])
    size, axes, units = merged["resolution"], merged["axes"], merged["units"]
    pixel = merged["pixelResolution"]
    assert pixel["unit"] == "nm"
    assert [len(values) for values in (size, axes, units, pixel["dimensions"])] == [rank] * 4
    assert all(value > 0 for value in pixel["dimensions"])
    assert merged["compression"]["type"] in ("raw", "blosc", "gzip")
    factors = {"nm": Fraction(1), "": Fraction(1)}
    size = [s * factors[u] for s, u in zip(lengths(*pixel["dimensions"]), units, strict=True)]
    return axes, size


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())
