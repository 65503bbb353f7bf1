"""The attributes of funlib.persistence and DaCapo on zarr arrays.

`voxel_size` (`resolution` in older files), `offset` (begin corner of voxel 0), `units` and
`axis_names`, in the order of the array's axes, for the spatial axes or for all of them.

funlib.persistence 0.7 silently truncates voxel sizes and offsets to integers (4.24 becomes 4), so
`open_ds` misplaces an array with fractional ones. The attributes themselves are exact.
"""

from __future__ import annotations

from blockwise_predict.geometry.grid import Lengths
from blockwise_predict.io.formats import Node
from blockwise_predict.io.kvstore import Json
from blockwise_predict.io.spec import OutputAxes
from blockwise_predict.io.statement import (
    KINDS,
    Axes,
    Statement,
    axes_from_names,
    read_timing,
    spatial_lengths,
)
from blockwise_predict.io.units import exact_numbers, json_numbers

LOOKED_FOR = "voxel_size, resolution, offset (funlib)"


def read_statements(node: Node, ndim: int) -> list[Statement]:
    """What funlib's attributes of a zarr array say."""
    attributes = node.attributes
    axes = _axes(attributes, ndim)
    size_key = next((key for key in ("voxel_size", "resolution") if key in attributes), None)
    sizes = _numbers(node, size_key)
    begins = _numbers(node, "offset" if "offset" in attributes else None)
    size, size_notes = _lengths(node, size_key, sizes, axes)
    offset, offset_notes = _lengths(node, "offset", begins, axes)
    units = attributes.get("units")
    statement = Statement(
        source=f"funlib attributes of {node.attributes_name}",
        voxel_size=size,
        offset=offset,
        voxel_size_source=f"attribute '{size_key}' of {node.attributes_name}",
        offset_source=f"attribute 'offset' of {node.attributes_name}",
        axes=axes,
        notes=tuple(dict.fromkeys(size_notes + offset_notes)),
        timing=read_timing(axes, units, interval=sizes, begin=begins),
    )
    return [statement] if statement.is_informative else []


def _axes(attributes: Json, ndim: int) -> Axes | None:
    axes = axes_from_names(attributes.get("axis_names", attributes.get("axes")), ndim)
    types = attributes.get("types")
    if isinstance(types, list) and len(types) == ndim and set(map(str, types)) <= KINDS:
        names = axes.names if axes else tuple(f"d{index}" for index in range(ndim))
        return Axes(names, tuple(types))
    return axes


def _numbers(node: Node, key: str | None) -> Lengths | None:
    return None if key is None else exact_numbers(node.attributes[key], _named(node, key))


def _lengths(
    node: Node, key: str | None, values: Lengths | None, axes: Axes | None
) -> tuple[Lengths | None, list[str]]:
    if values is None:
        return None, []
    return spatial_lengths(values, node.attributes.get("units"), axes, _named(node, key))


def _named(node: Node, key: str | None) -> str:
    return f"attribute '{key}' of {node.attributes_name}"


def attributes(voxel_size: Lengths, offset: Lengths, axes: OutputAxes) -> Json:
    """The attributes of an array with the axes of an output; lengths in nm."""
    return {
        "voxel_size": json_numbers(voxel_size),
        "offset": json_numbers(offset),
        "axis_names": axes.stored("c^", axes.names),
        "units": axes.stored("", axes.units),
        "types": axes.stored_kinds,
    }
