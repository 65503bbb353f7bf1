"""The metadata documents of served images: zarr 3 with OME-NGFF 0.5 and funlib's attributes."""

from __future__ import annotations

from blockwise_predict.geometry.grid import Lengths
from blockwise_predict.io.kvstore import Json
from blockwise_predict.io.ngff import translation
from blockwise_predict.io.statement import SPACE, TIME
from blockwise_predict.io.timing import unit_symbol
from blockwise_predict.io.units import json_numbers
from blockwise_predict.view.served import ServedImage, ServedLevel


def group_document(image: ServedImage) -> Json:
    """`zarr.json` of an image's group, in which the levels are called s0, s1, ..."""
    datasets = [
        {"path": f"s{number}", "coordinateTransformations": _transformations(image, level)}
        for number, level in enumerate(image.levels)
    ]
    multiscale = {"name": image.name, "axes": _axes(image), "datasets": datasets}
    return {
        "zarr_format": 3,
        "node_type": "group",
        "attributes": {"ome": {"version": "0.5", "multiscales": [multiscale]}},
    }


def array_document(image: ServedImage, number: int) -> Json | None:
    """`zarr.json` of a level; None if there is no such level."""
    if number >= len(image.levels):
        return None
    level = image.levels[number]
    channels = image.channels or 1
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": image.stored(channels, level.shape),
        "data_type": image.dtype.name,
        "chunk_grid": {
            "name": "regular",
            "configuration": {"chunk_shape": image.stored(channels, level.chunk_shape)},
        },
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
        "dimension_names": image.stored("c", image.axis_names),
        "attributes": _attributes(image, level),
    }


def displayed_begin(image: ServedImage) -> list[float]:
    """Where neuroglancer shows the begin corner of the finest level, one value per stored axis.

    It takes a translation for the centre of voxel 0.
    """
    first = image.levels[0]
    shift = _shift(image, first)
    corner = [float(t - s / 2) for t, s in zip(shift, first.voxel_size, strict=True)]
    # It does so along the channels as well.
    return image.stored(-0.5, corner)


def _attributes(image: ServedImage, level: ServedLevel) -> Json:
    return {
        "voxel_size": json_numbers(level.voxel_size),
        "offset": json_numbers(image.offset),
        "axis_names": image.stored("c^", image.axis_names),
        "units": image.stored("", image.axes.units),
        "types": image.kinds,
        **({"channel_names": [*image.channel_names]} if image.channel_names else {}),
    }


def _axes(image: ServedImage) -> list[Json]:
    time = image.time_unit or ""
    # neuroglancer opens nothing with a unit that OME-NGFF does not have.
    units = {SPACE: "nanometer", TIME: time if unit_symbol(time) != time else ""}
    names = image.stored("c", image.axis_names)
    return [
        {"name": name, "type": kind, **({"unit": units[kind]} if units.get(kind) else {})}
        for name, kind in zip(names, image.kinds, strict=True)
    ]


def _transformations(image: ServedImage, level: ServedLevel) -> list[Json]:
    shift = _shift(image, level)
    return [
        {"type": "scale", "scale": image.stored(1, json_numbers(level.voxel_size))},
        {"type": "translation", "translation": image.stored(0, json_numbers(shift))},
    ]


def _shift(image: ServedImage, level: ServedLevel) -> Lengths:
    return translation(image.offset, level.voxel_size, image.levels[0].voxel_size)
