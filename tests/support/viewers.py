"""How neuroglancer places arrays: the rules of its source, transcribed."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

from tests.support.arrays import lengths

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
    size, shift = _transformed(multiscale, dataset)
    array = group / dataset["path"]
    shape = _json(array / ("zarr.json" if version3 else ".zarray"))["shape"]
    units = [UNITS[axis["unit"]] if "unit" in axis else Fraction(1) for axis in axes]
    begin = [(t - s / 2) * unit for t, s, unit in zip(shift, size, units, strict=True)]
    end = [b + s * n * u for b, s, n, u in zip(begin, size, shape, units, strict=True)]
    names = [a["name"] + ("'" if a.get("type") == "channel" else "") for a in axes]
    return names, [s * unit for s, unit in zip(size, units, strict=True)], begin, end


def _transformed(
    multiscale: dict[str, Any], dataset: dict[str, Any]
) -> tuple[list[Fraction], list[Fraction]]:
    """Scale and translation of a dataset, of all transformations."""
    axes = multiscale["axes"]
    size, shift = [Fraction(1)] * len(axes), [Fraction(0)] * len(axes)
    steps = dataset["coordinateTransformations"]
    for step in steps + multiscale.get("coordinateTransformations", []):
        if step["type"] == "scale":
            factors = lengths(*step["scale"])
            size = [s * f for s, f in zip(size, factors, strict=True)]
            shift = [s * f for s, f in zip(shift, factors, strict=True)]
        elif step["type"] == "translation":
            shift = [s + t for s, t in zip(shift, lengths(*step["translation"]), strict=True)]
    return size, shift


def neuroglancer_levels(group: Path) -> list[tuple[list[Fraction], list[Fraction]]]:
    """Voxel size and begin of each level of a group's first multiscale, as neuroglancer shows it.

    Lengths are in the axes' units. The rules of `neuroglancer_zarr`.
    """
    version3 = (group / "zarr.json").exists()
    attributes = _json(group / ("zarr.json" if version3 else ".zattrs"))
    multiscale = (attributes["attributes"]["ome"] if version3 else attributes)["multiscales"][0]
    found = []
    for dataset in multiscale["datasets"]:
        size, shift = _transformed(multiscale, dataset)
        found.append((size, [t - s / 2 for t, s in zip(shift, size, strict=True)]))
    return found


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
