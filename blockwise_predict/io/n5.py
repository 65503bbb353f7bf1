"""The conventions by which N5 arrays, and the groups above them, say where they lie.

N5 writes axes x first; everything is reversed here to C order (z, y, x). COSEM's `transform` names
its axes itself, usually z first. The attributes, with who writes them:

- `resolution`, `offset`, `units`, `axes` on the array: old funlib, neuroglancer, Paintera
- `transform` {axes, scale, translate, units}, also in `multiscales` of the group: COSEM
- `pixelResolution` ({unit, dimensions}, or a list): n5-viewer, BigDataViewer
- `resolution` or `pixelResolution` of the group, times `scales` or `downsamplingFactors`: both

neuroglancer merges the attributes of all groups above into those of an array, needs one
`resolution` for each axis, channels too, and knows no offset at all: an N5 layer is shown at the
origin unless its source is given a transform there. See `getAttributes` and `getMultiscaleMetadata`
in https://github.com/google/neuroglancer/blob/master/src/datasource/n5/frontend.ts
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from blockwise_predict.geometry.grid import Lengths
from blockwise_predict.io.formats import Node
from blockwise_predict.io.kvstore import Json, join, name_of
from blockwise_predict.io.spec import OutputAxes
from blockwise_predict.io.statement import (
    Axes,
    Statement,
    axes_from_names,
    read_timing,
    spatial_lengths,
)
from blockwise_predict.io.units import exact_numbers, json_numbers

LOOKED_FOR = (
    "resolution, voxel_size, offset, transform, pixelResolution (N5), here and in the groups above"
)


def read_statements(node: Node, groups: list[Node], ndim: int) -> list[Statement]:
    """What the attributes of an N5 array and of the groups above say, the array's own first."""
    axes = next((own for holder in (node, *groups) if (own := _axes(holder, ndim))), None)
    found = [
        _downsampled(_plain(node, axes), node),
        _transform(node.attributes.get("transform"), f"'transform' of {node.attributes_name}"),
        _downsampled(_pixel_resolution(node, axes), node),
        *_cosem_multiscales(node, groups),
        *(_level(_plain(g, axes) or _pixel_resolution(g, axes), node, g) for g in groups),
        Statement(source=f"attribute 'axes' of {node.attributes_name}", axes=axes),
    ]
    return [statement for statement in found if statement is not None and statement.is_informative]


def _axes(node: Node, ndim: int) -> Axes | None:
    names = node.attributes.get("axes")
    return axes_from_names(names[::-1] if isinstance(names, list) else None, ndim)


def _plain(node: Node, axes: Axes | None) -> Statement | None:
    """`resolution`, `offset`, `units` x first; or in C order beside a `voxel_size`.

    The latter is how funlib.persistence 0.4 and later writes every format.
    """
    attributes, place = node.attributes, node.attributes_name
    in_c_order = "voxel_size" in attributes and "resolution" not in attributes
    key, step = ("voxel_size", 1) if in_c_order else ("resolution", -1)
    units = attributes.get("units")
    units = units[::step] if isinstance(units, list) else units
    lengths: dict[str, Lengths] = {}
    stored: dict[str, Lengths] = {}
    notes: list[str] = []
    for name in (key, "offset"):
        if name in attributes:
            what = f"attribute '{name}' of {place}"
            stored[name] = exact_numbers(attributes[name], what)[::step]
            lengths[name], more = spatial_lengths(stored[name], units, axes, what)
            notes += more
    if not lengths:
        return None
    source = f"attribute '{key}' of {place}"
    offset_source = f"attribute 'offset' of {place}"
    size, offset = lengths.get(key), lengths.get("offset")
    timing = read_timing(axes, units, interval=stored.get(key), begin=stored.get("offset"))
    return Statement(source, size, offset, source, offset_source, None, tuple(notes), timing)


def _pixel_resolution(node: Node, axes: Axes | None) -> Statement | None:
    value = node.attributes.get("pixelResolution")
    unit = value.get("unit") if isinstance(value, dict) else None
    numbers = value.get("dimensions") if isinstance(value, dict) else value
    if numbers is None:
        return None
    source = f"attribute 'pixelResolution' of {node.attributes_name}"
    size, notes = spatial_lengths(exact_numbers(numbers, source)[::-1], unit, axes, source)
    return Statement(source, size, None, source, "", None, tuple(notes))


def _downsampled(statement: Statement | None, node: Node) -> Statement | None:
    """The statement, voxel size times the array's own `downsamplingFactors`, as in neuroglancer."""
    what = f"'downsamplingFactors' of {node.attributes_name}"
    return _times(statement, node.attributes.get("downsamplingFactors"), what)


def _level(statement: Statement | None, node: Node, group: Node) -> Statement | None:
    """The statement, a group's voxel size times the factors of this level (s0, s1, ...) of it."""
    level = re.fullmatch(r"s(\d+)", name_of(node.location))
    for key in ("scales", "downsamplingFactors"):
        table = group.attributes.get(key)
        if level and isinstance(table, list) and int(level[1]) < len(table):
            what = f"'{key}'[{int(level[1])}] of {group.attributes_name}"
            return _times(statement, table[int(level[1])], what)
    return _downsampled(statement, node)


def _times(statement: Statement | None, factors: object, what: str) -> Statement | None:
    if statement is None or statement.voxel_size is None or not isinstance(factors, list):
        return statement
    size = statement.voxel_size
    if len(factors) < len(size) or any(isinstance(factor, list) for factor in factors):
        return statement
    # The factors are x first, so a channel's comes after the spatial ones.
    numbers = exact_numbers(factors, what)[: len(size)][::-1]
    product = tuple(s * f for s, f in zip(size, numbers, strict=True))
    source = f"{statement.voxel_size_source}, times {what}"
    return replace(statement, voxel_size=product, voxel_size_source=source)


def _transform(transform: object, what: str) -> Statement | None:
    """COSEM's transform; lists its axes in the order of its values."""
    if not isinstance(transform, dict) or "scale" not in transform:
        return None
    scale = exact_numbers(transform["scale"], f"scale in {what}")
    axes = axes_from_names(transform.get("axes"), len(scale))
    step = -1 if _x_first(transform.get("axes")) else 1
    units = transform.get("units")
    size, notes = spatial_lengths(scale, units, axes, what)
    shift = offset = None
    if "translate" in transform:
        shift = exact_numbers(transform["translate"], f"translate in {what}")
        offset = spatial_lengths(shift, units, axes, what)[0][::step]
    return Statement(
        source=what,
        voxel_size=size[::step],
        offset=offset,
        voxel_size_source=f"scale in {what}",
        offset_source=f"translate in {what}",
        notes=tuple(notes),
        timing=read_timing(axes, units, interval=scale, begin=shift),
    )


def _x_first(names: object) -> bool:
    lower = [str(name).lower() for name in names] if isinstance(names, list) else []
    return "x" in lower and "y" in lower and lower.index("x") < lower.index("y")


def _cosem_multiscales(node: Node, groups: list[Node]) -> Iterator[Statement | None]:
    for group in groups:
        for i, multiscale in enumerate(_objects(group.attributes, "multiscales")):
            for j, dataset in enumerate(_objects(multiscale, "datasets")):
                path = dataset.get("path", dataset.get("name"))
                if join(group.location, str(path)) == node.location:
                    place = f"multiscales[{i}].datasets[{j}].transform of {group.attributes_name}"
                    yield _transform(dataset.get("transform"), place)


def _objects(holder: Json, key: str) -> list[Json]:
    found = holder.get(key)
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def attributes(
    voxel_size: Lengths, offset: Lengths, translation: Lengths, axes: OutputAxes
) -> Json:
    """The attributes of an array with the axes of an output, written x first; lengths in nm.

    One entry for each axis, channels too, because neuroglancer refuses fewer. `translation` is
    where COSEM's tools put the centre of voxel 0, see `ngff.translation`. `pixelResolution` has one
    unit for all axes: there a frame is 1, as a channel is.
    """
    size = axes.stored(1, json_numbers(voxel_size))[::-1]
    frames = [1] * axes.channel
    return {
        "resolution": size,
        "offset": axes.stored(0, json_numbers(offset))[::-1],
        "units": axes.stored("", axes.units)[::-1],
        "axes": axes.stored_names[::-1],
        "pixelResolution": {"unit": "nm", "dimensions": size[: len(size) - len(frames)] + frames},
        "transform": {
            "axes": list(axes.names),
            "scale": json_numbers(voxel_size),
            "translate": json_numbers(translation),
            "units": axes.units,
        },
    }
