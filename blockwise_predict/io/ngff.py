"""OME-NGFF: an array's place in the `multiscales` of a group above it, versions 0.4 to 0.6.

What an NGFF translation means. The specification leaves open whether it is the place of voxel 0's
centre or corner. neuroglancer takes the centre: it subtracts half a voxel of each scale (the loop
after "the origin of a voxel is its center" in `parseOmeMultiscale`,
https://github.com/google/neuroglancer/blob/master/src/datasource/zarr/ome.ts). COSEM's pyramids
agree: a level with twice the voxel is translated by half a voxel more.

Here world coordinates are those of the input: the begin corner of an input voxel 0 is at its
`offset`, which for an NGFF input is its translation. In a viewer that takes the centre, input and
output are then both displayed half an *input* voxel earlier, and so still lie on each other,
if an output of other voxels is translated by the difference of the half voxels: see `translation`.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence
from typing import Any

from blockwise_predict.geometry.grid import Lengths
from blockwise_predict.io.formats import Node
from blockwise_predict.io.kvstore import Json, root_and_parts
from blockwise_predict.io.spec import OutputAxes
from blockwise_predict.io.statement import (
    CHANNEL,
    SPACE,
    TIME,
    Axes,
    Statement,
    axes_from_names,
    read_timing,
    spatial_lengths,
    spatial_part,
    time_part,
)
from blockwise_predict.io.timing import Timing, time_unit
from blockwise_predict.io.transformations import compose, read_transformations
from blockwise_predict.io.units import (
    exact_number,
    json_number,
    scaled,
)

_NUMBER = re.compile(r"\d+(\.\d+)?([eE][-+]?\d+)?")

LOOKED_FOR = "multiscales of the groups above (OME-NGFF)"


def translation(offset: Lengths, voxel_size: Lengths, input_voxel_size: Lengths) -> Lengths:
    """The NGFF translation of an output whose begin corner is at `offset` (nm).

    `offset + (voxel_size - input_voxel_size) / 2`: the offset itself unless voxels change size.
    """
    sizes = zip(offset, voxel_size, input_voxel_size, strict=True)
    return tuple(begin + (own - given) / 2 for begin, own, given in sizes)


def read_statements(node: Node, groups: list[Node], ndim: int) -> list[Statement]:
    """What the groups above an array say of it, nearest group first."""
    parts = root_and_parts(node.location)[1]
    statements = []
    for group in groups:
        path = "/".join(parts[len(root_and_parts(group.location)[1]) :])
        for place, multiscale, dataset in _datasets(group):
            own = dataset.get("path")
            if isinstance(own, str) and posixpath.normpath(own) == path:
                statements.append(_statement(place, multiscale, dataset, ndim))
    return statements


def multiscales_of(attributes: Json) -> tuple[str, list[Any]]:
    """The multiscales in a group's attributes, and their key for messages: 0.5 first, else 0.4."""
    ome = attributes.get("ome")
    if isinstance(ome, dict) and isinstance(ome.get("multiscales"), list):
        return "ome.multiscales", ome["multiscales"]
    plain = attributes.get("multiscales")
    return "multiscales", plain if isinstance(plain, list) else []


def _datasets(group: Node) -> Iterator[tuple[str, Json, Json]]:
    key, multiscales = multiscales_of(group.attributes)
    for index, multiscale in enumerate(multiscales):
        datasets = multiscale.get("datasets") if isinstance(multiscale, dict) else None
        for position, dataset in enumerate(datasets if isinstance(datasets, list) else []):
            place = f"{key}[{index}].datasets[{position}] of {group.attributes_name}"
            if isinstance(dataset, dict):
                yield place, multiscale, dataset


def _statement(place: str, multiscale: Json, dataset: Json, ndim: int) -> Statement:
    found = read_transformations(multiscale, dataset, place)
    axes, units = _axes(found.axes, ndim)
    if found.problem:
        return Statement(place, axes=axes, notes=(f"{place} is ignored: {found.problem}",))
    if axes is None:
        note = f"{place} is ignored: its axes are not those of an array with {ndim} axes"
        return Statement(source=place, notes=(note,))
    scale, shift = compose(found.steps, place, ndim)
    size, notes = spatial_lengths(scale, units, axes, place)
    offset, _ = spatial_lengths(shift, units, axes, place)
    # Only an identity to units of length says how large a voxel is: one of them.
    known = all(unit is not None for unit in spatial_part(units, axes))
    sized = "scale" in found.kinds or (found.in_system and "identity" in found.kinds and known)
    moved = "translation" in found.kinds
    return Statement(
        source=place,
        voxel_size=size if sized else None,
        offset=offset if moved else None,
        voxel_size_source=f"scale in {place}",
        offset_source=f"translation in {place}",
        axes=axes,
        notes=(*found.notes, *notes),
        timing=read_timing(
            axes,
            units,
            interval=scale if sized else None,
            begin=shift if moved else None,
        ),
    )


def scale_and_shift(dataset: Json, place: str, ndim: int) -> tuple[Lengths, Lengths]:
    """The composed scale and translation of a dataset, called `place` in messages."""
    return compose(read_transformations({}, dataset, place).steps, place, ndim)


def _axes(axes: object, ndim: int) -> tuple[Axes | None, list[object]]:
    if not isinstance(axes, list) or len(axes) != ndim:
        return None, []
    if all(isinstance(axis, str) for axis in axes):  # version 0.3
        return axes_from_names(axes, ndim), [None] * ndim
    if not all(isinstance(axis, dict) and "name" in axis for axis in axes):
        return None, []
    guessed = axes_from_names([axis["name"] for axis in axes], ndim)
    if guessed is None:
        return None, []
    known = (SPACE, TIME, CHANNEL)
    kinds = tuple(
        str(axis["type"]) if axis.get("type") in known else guess
        for axis, guess in zip(axes, guessed.kinds, strict=True)
    )
    return Axes(guessed.names, kinds), [axis.get("unit") for axis in axes]


def dimension_statements(node: Node, ndim: int) -> list[Statement]:
    """The axes named by zarr 3's `dimension_names` or xarray's `_ARRAY_DIMENSIONS`.

    tensorstore and neuroglancer add `dimension_units` ("4 nm"); they are read as voxel size.
    """
    key = "dimension_names" if node.format == "zarr3" else "_ARRAY_DIMENSIONS"
    holder = node.metadata if node.format == "zarr3" else node.attributes
    axes = axes_from_names(holder.get(key), ndim)
    if axes is None:
        return []
    what = f"attribute 'dimension_units' of {node.attributes_name}"
    units = node.attributes.get("dimension_units")
    units = units if isinstance(units, list) else []
    size, notes = _dimension_units(spatial_part(units, axes), what)
    timing = _time_unit(time_part(units, axes), what)
    source = f"{key} of {node.attributes_name}"
    return [Statement(source, size, None, what, "", axes, tuple(notes), timing)]


def _dimension_units(units: Sequence[object], what: str) -> tuple[Lengths | None, list[str]]:
    texts = [str(unit).split() for unit in units]
    if not texts or not all(_is_length(text) for text in texts):
        return None, []
    numbers = tuple(exact_number(float(number), what) for number, _ in texts)
    return scaled(numbers, [unit for _, unit in texts], what)


def _time_unit(unit: object, what: str) -> Timing | None:
    text = str(unit).split()
    if not _is_length(text):
        return None
    return Timing(time_unit(text[1]), exact_number(float(text[0]), what))


def _is_length(text: list[str]) -> bool:
    return len(text) == 2 and _NUMBER.fullmatch(text[0]) is not None


def direct_attributes(node_format: str, axes: OutputAxes, voxel_size: Lengths) -> Json:
    """Attributes by which neuroglancer scales an array that is opened without its group."""
    sizes = [
        f"{json_number(size)} {unit}" if unit else None
        for size, unit in zip(voxel_size, axes.units, strict=True)
    ]
    names = {} if node_format == "zarr3" else {"_ARRAY_DIMENSIONS": axes.stored_names}
    return {**names, "dimension_units": axes.stored(None, sizes)}
