"""What was understood of an array, for people."""

from __future__ import annotations

from collections.abc import Sequence

from blockwise_predict.geometry.grid import format_bounds, format_sizes
from blockwise_predict.io.interface import PlacedArray

_FORMATS = {
    "zarr2": "zarr 2",
    "zarr3": "zarr 3",
    "n5": "N5",
    "precomputed": "neuroglancer precomputed",
}


def describe_array(array: PlacedArray) -> list[tuple[str, str]]:
    """Rows of label and value: how the array is stored, where it lies, and how that is known."""
    storage, placement = array.storage, array.placement
    grid = placement.grid
    size, offset = (format_sizes(v, grid.time_unit) for v in (grid.voxel_size, grid.offset))
    axes = zip(storage.axes.names, storage.axes.kinds, storage.shape, strict=True)
    rows = [
        ("path", array.path),
        ("format", _FORMATS.get(array.format, array.format)),
        ("shape", f"{_by(array.shape)} voxels ({', '.join(placement.axis_names)})"),
        ("channels", _channels(array)),
        ("stored axes", ", ".join(f"{name} {length} ({kind})" for name, kind, length in axes)),
        ("dtype", storage.dtype),
        ("chunks", _by(storage.chunk_shape)),
        ("compression", storage.compression),
        ("voxel size", f"{size}, from {placement.voxel_size_source}"),
        ("offset", f"{offset}, from {placement.offset_source}"),
        ("ROI", f"{format_bounds(placement.offset, grid.world(array.shape))} {grid.units}"),
    ]
    if storage.shard_shape is not None:
        rows.insert(7, ("shards", _by(storage.shard_shape)))
    return rows + [("note", note) for note in placement.notes]


def _channels(array: PlacedArray) -> str:
    if array.channels is None:
        return "no channel axis"
    names = f" ({', '.join(array.channel_names)})" if array.channel_names else ""
    return f"{array.channels}{names}"


def _by(lengths: Sequence[int]) -> str:
    return " x ".join(str(length) for length in lengths)
