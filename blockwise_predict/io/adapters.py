"""What arrays of other libraries say of themselves, and how their voxels are read.

Libraries are recognised by the names of their types, so that no unused one is imported.
Nothing is read, or copied, before it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from blockwise_predict.errors import ArrayError
from blockwise_predict.geometry.grid import Lengths
from blockwise_predict.io import funlib, ngff
from blockwise_predict.io.coordinates import coordinate_statement
from blockwise_predict.io.formats import Format, Node
from blockwise_predict.io.given import Given
from blockwise_predict.io.source import fully_stored
from blockwise_predict.io.statement import (
    CHANNEL,
    SPACE,
    TIME,
    Axes,
    Statement,
    axes_from_names,
    read_timing,
    spatial_lengths,
)
from blockwise_predict.io.timing import Timing, time_unit
from blockwise_predict.io.units import exact_number, nanometers

Window = tuple[slice, ...]

# Without chunks of their own arrays are sampled, and estimates made, by boxes of this edge.
BOX = 64


@dataclass(frozen=True)
class Adapted:
    """An array of another library: axes as it has them.

    `read` gives the voxels of a window as numpy's, and `is_stored` whether all of it is stored.
    `statements` are its metadata about its place; with `must_say`, no voxel size is assumed.
    """

    name: str
    library: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunk_shape: tuple[int, ...]
    read: Callable[[Window], np.ndarray[Any, Any]]
    statements: list[Statement]
    fill_value: Any = 0
    is_stored: Callable[[Window], bool] = lambda _: True
    must_say: bool = False


def adapt(data: Any, given: Given) -> Adapted:
    """See what kind of array `data` is. Raises ArrayError for none of those that can be read."""
    names = {(kind.__module__.split(".")[0], kind.__name__) for kind in type(data).__mro__}
    for name, adapter in _ADAPTERS.items():
        if name in names:
            return adapter(data, given)
    known = ", ".join(".".join(name) for name in _ADAPTERS)
    raise ArrayError(
        f"{type(data).__module__}.{type(data).__qualname__} is not an array that can be read. "
        f"Give a path or URL, or one of: {known}."
    )


def _numpy(data: Any, _given: Given) -> Adapted:
    return Adapted(
        name="<numpy.ndarray>",
        library="numpy",
        shape=data.shape,
        dtype=data.dtype,
        chunk_shape=_boxes(data.shape),
        # What is read is the reader's own.
        read=lambda window: data[window].copy(),
        statements=[],
    )


def _dask(data: Any, _given: Given) -> Adapted:
    return Adapted(
        name="<dask.array.Array>",
        library="dask",
        shape=data.shape,
        dtype=data.dtype,
        chunk_shape=data.chunksize,
        read=lambda window: np.asarray(data[window].compute()),
        statements=[],
    )


def _zarr(data: Any, _given: Given) -> Adapted:
    metadata = data.metadata.to_dict()
    format_: Format = "zarr2" if data.metadata.zarr_format == 2 else "zarr3"
    name = str(data.store_path)
    node = Node(name, format_, True, metadata, data.attrs.asdict())
    return Adapted(
        name=name,
        library="zarr-python",
        shape=data.shape,
        dtype=data.dtype,
        chunk_shape=data.chunks,
        read=lambda window: np.asarray(data[window]),
        statements=[
            *funlib.read_statements(node, data.ndim),
            *ngff.dimension_statements(node, data.ndim),
        ],
        fill_value=0 if data.fill_value is None else data.fill_value,
        must_say=True,
    )


def _tensorstore(data: Any, _given: Given) -> Adapted:
    import tensorstore as ts

    view = data[ts.d[:].translate_to[0]] if data.rank else data
    chunks = data.chunk_layout.read_chunk.shape
    fill = data.fill_value
    return Adapted(
        name=f"<tensorstore {data.kvstore.url}>" if data.kvstore else "<tensorstore>",
        library="tensorstore",
        shape=tuple(int(length) for length in data.shape),
        dtype=np.dtype(data.dtype.numpy_dtype),
        chunk_shape=tuple(
            int(chunk or box) for chunk, box in zip(chunks, _boxes(data.shape), strict=True)
        ),
        read=lambda window: np.array(view[window].read().result()),
        statements=_tensorstore_statements(data),
        fill_value=0 if fill is None else np.asarray(fill).item(),
        is_stored=lambda window: fully_stored(view[window]),
    )


def _tensorstore_statements(data: Any) -> list[Statement]:
    """Its dimensions' labels and units, where they have some."""
    axes = axes_from_names(list(data.domain.labels), data.rank)
    what = "dimension_units of the TensorStore"
    spatial = axes.of_kind(SPACE) if axes else range(data.rank)
    units = [data.dimension_units[axis] for axis in spatial]
    size: Lengths | None = None
    notes = []
    if units and all(unit is not None for unit in units):
        factors = [nanometers(unit.base_unit, what) for unit in units]
        size = tuple(
            exact_number(unit.multiplier, what) * factor
            for unit, (factor, _) in zip(units, factors, strict=True)
        )
        notes = [note for _, note in factors if note]
    return [Statement(what, size, None, what, "", axes, tuple(notes), _unit_of_time(data, axes))]


def _unit_of_time(data: Any, axes: Axes | None) -> Timing | None:
    """The interval of frames, where the dimension of time has a unit."""
    unit = data.dimension_units[axes.of_kind(TIME)[0]] if axes and axes.has_time else None
    if unit is None:
        return None
    interval = exact_number(unit.multiplier, "dimension_units of the TensorStore")
    return Timing(time_unit(unit.base_unit), interval)


def _funlib(data: Any, _given: Given) -> Adapted:
    kinds = tuple(map(str, data.types))
    axes = Axes(tuple(map(str, data.axis_names)), kinds)
    what = "the funlib.persistence.Array"

    def for_each_axis(values: Sequence[Any], channel: Any) -> list[Any]:
        physical = iter(values)
        return [channel if kind == CHANNEL else next(physical) for kind in kinds]

    units = for_each_axis(data.units, "")
    size, offset = (
        tuple(exact_number(value, what) for value in for_each_axis(values, 1))
        for values in (data.voxel_size, data.offset)
    )
    voxel_size, notes = spatial_lengths(size, units, axes, what)
    begin, _ = spatial_lengths(offset, units, axes, what)
    timing = read_timing(axes, units, interval=size, begin=offset)
    statement = Statement(what, voxel_size, begin, what, what, axes, tuple(notes), timing)
    return Adapted(
        name="<funlib.persistence.Array>",
        library="funlib.persistence",
        shape=data.shape,
        dtype=data.dtype,
        chunk_shape=data.data.chunksize,
        read=lambda window: np.asarray(data.data[window].compute()),
        statements=[statement],
    )


def _xarray(data: Any, given: Given) -> Adapted:
    chunks = tuple(sizes[0] for sizes in data.chunks) if data.chunks else _boxes(data.shape)
    return Adapted(
        name=f"<xarray.DataArray {data.name or ''}".rstrip() + ">",
        library="xarray",
        shape=data.shape,
        dtype=data.dtype,
        chunk_shape=chunks,
        read=lambda window: np.array(data[window].values),
        statements=[coordinate_statement(data, given)],
    )


def _boxes(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(max(1, min(BOX, int(length))) for length in shape)


_ADAPTERS: dict[tuple[str, str], Callable[[Any, Given], Adapted]] = {
    ("numpy", "ndarray"): _numpy,
    ("zarr", "Array"): _zarr,
    ("tensorstore", "TensorStore"): _tensorstore,
    ("dask", "Array"): _dask,
    ("funlib", "Array"): _funlib,
    ("xarray", "DataArray"): _xarray,
}
