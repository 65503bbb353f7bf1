"""Input arrays: read through tensorstore, axes in one order whatever the format."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts

from blockwise_predict.errors import ArrayError, shown
from blockwise_predict.geometry.grid import format_length
from blockwise_predict.io import precomputed
from blockwise_predict.io.formats import CONVERSION, DRIVERS, Node, StoredFormat, find_array
from blockwise_predict.io.given import Given
from blockwise_predict.io.kvstore import kvstore_spec, storage_context, storage_errors
from blockwise_predict.io.level import ChosenLevel
from blockwise_predict.io.placement import Placement, place_array
from blockwise_predict.io.statement import CHANNEL, Axes
from blockwise_predict.io.storage import channel_names, storage_of
from blockwise_predict.io.volume import Volume

# Maximum decoded size. Chunks are read whole, by every slot of a worker.
MAX_CHUNK_BYTES = 4 << 30
# Types that numpy lacks, or that networks cannot compute with.
_READ_AS = {"bool": "uint8", "bfloat16": "float32", "int4": "int8", "uint4": "uint8"}
# tensorstore has more types, but numpy cannot do arithmetic with those.
_NUMBERS = {
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64"),
}


class InputArray(Volume):
    """An array to read from, made by `open_input`. Safe to read from several threads.

    `chunk_shape` is the smallest box that can be read; `dtype` is as `read` returns (bool as 0 and
    1 of uint8: what is stored is `storage.dtype`); `fill_value` stands for voxels that are not
    stored; `metadata_sha256` is of what said how the array is stored, when it was opened. `options`
    are those of a run that opens it in the same way. `level` tells how it was chosen of a group.
    """

    def __init__(self, node: Node, store: Any, placement: Placement, axes: Axes) -> None:
        volume = axes.of_volume(with_time=placement.time_unit is not None)
        channel = axes.of_kind(CHANNEL)
        self.path = node.location
        self.format = node.format
        self.metadata_sha256 = node.metadata_sha256
        self.placement = placement
        self.storage = storage_of(node, store, axes)
        self.shape = tuple(self.storage.shape[axis] for axis in volume)
        self.chunk_shape = tuple(self.storage.chunk_shape[axis] for axis in volume)
        self.channels = self.storage.shape[channel[0]] if channel else None
        self.channel_names = channel_names(node)
        self.options: dict[str, Any] = {}
        self.level: ChosenLevel | None = None
        self._order = (*channel, *volume)
        self._view = _arranged(_numeric(store, node.location), self._order)
        # What tells whether chunks are stored where tensorstore's statistics do not.
        self._strict: Any = None
        self.dtype = np.dtype(self._view.dtype.numpy_dtype)
        fill = store.fill_value
        self.fill_value: np.generic = self.dtype.type(
            0 if fill is None else np.asarray(fill).item()
        )

    def current_sha256(self) -> str:
        """`metadata_sha256` as it is now. Raises ArrayError if the array is no longer there."""
        return find_array(self.path).metadata_sha256

    def is_stored(self, begin: Sequence[int], end: Sequence[int]) -> bool:
        """Whether every chunk with a voxel of `begin .. end` is stored (it may be damaged)."""
        window = spatial_window(begin, end, self.shape, self.path)
        box = window if self.channels is None else (slice(None), *window)
        if self._strict is not None:
            return _read_without_gaps(self._strict[box])
        return fully_stored(self._view[box])

    def check_gaps_by(self, strict: Any) -> None:
        """Have `is_stored` read from `strict`: the same tensorstore, which fails where chunks are
        missing."""
        self._strict = _arranged(strict, self._order)

    def read(self, begin: Sequence[int], end: Sequence[int]) -> np.ndarray[Any, Any]:
        window = spatial_window(begin, end, self.shape, self.path)
        if self.channels is None:
            data = self._view[window].read().result()[None]
        else:
            data = self._view[(slice(None), *window)].read().result()
        return np.ascontiguousarray(data)


def open_input(
    path: str | Path,
    *,
    voxel_size: Sequence[Fraction] | None = None,
    offset: Sequence[Fraction] | None = None,
    cache_bytes: int = 0,
    called: tuple[str, str] = ("--voxel-size", "--offset"),
) -> InputArray:
    """Open the zarr, N5 or neuroglancer precomputed array at a path or URL for reading.

    `voxel_size` and `offset` (nm, one for each spatial axis) override the array's attributes.
    `cache_bytes` of decoded chunks are kept for the next reads. Errors say that the user can give
    the two lengths as they are `called`.
    Raises ArrayError if there is no array (the message lists those nearby), if it does not say its
    voxel size, or if its axes or type of data are not supported.
    """
    size = None if voxel_size is None else tuple(voxel_size)
    begin = None if offset is None else tuple(offset)
    return _open(path, Given(size, begin, called), cache_bytes)


def _open(path: str | Path, given: Given, cache_bytes: int = 0) -> InputArray:
    node = find_array(path)
    _check_converted(node)
    store = open_tensorstore(node, cache_bytes=cache_bytes)
    shape = tuple(int(length) for length in store.shape)
    if 0 in shape:
        raise ArrayError(f"{node.location} is empty: its shape is {shape}. Choose another array.")
    placement, axes = place_array(node, shape, given)
    array = InputArray(node, store, placement, axes)
    if gaps_need_reading(node.format, node.location):
        array.check_gaps_by(open_tensorstore(node, cache_bytes=cache_bytes, fail_at_gaps=True))
    lengths = {"voxel_size": given.voxel_size, "offset": given.offset}
    array.options = {"input": str(path)} | {
        key: tuple(map(format_length, length)) for key, length in lengths.items() if length
    }
    return array


def _check_converted(node: Node) -> None:
    """Raise ArrayError for an array that `predict convert` has not finished."""
    conversion = node.attributes.get(CONVERSION)
    if isinstance(conversion, dict) and conversion.get("complete") is not True:
        raise ArrayError(
            f"{node.location} is not completely converted from {shown(conversion.get('source'))}. "
            "Run the same predict convert again; it goes on from where it ended."
        )


def open_tensorstore(node: Node, *, cache_bytes: int = 0, fail_at_gaps: bool = False) -> Any:
    """The node's tensorstore, axes in C order. Missing chunks read as the fill value, or
    `fail_at_gaps`."""
    spec: dict[str, Any] = {"driver": DRIVERS[node.format], "kvstore": kvstore_spec(node.location)}
    if node.format == "precomputed":
        key = node.metadata["scale"]["key"]
        root = kvstore_spec(precomputed.root_of(node.location, key))
        spec |= {"kvstore": root, "scale_metadata": {"key": key}}
    if fail_at_gaps:
        spec["fill_missing_data_reads"] = False
    if gaps_need_reading(node.format, node.location):
        # What `is_stored` has read is not requested again.
        spec["recheck_cached_data"] = "open"
    with storage_errors(node.location, "open"):
        context = storage_context(node.location, cache_bytes)
        store = ts.open(spec, open=True, read=True, context=context).result()
    _check_chunks(store, node.location)
    return in_c_order(store, node.format)


def _check_chunks(store: Any, location: str) -> None:
    """Raise ArrayError for chunks so large that decoding one would exhaust the memory."""
    chunk = [int(length) for length in store.chunk_layout.read_chunk.shape]
    size = prod(chunk) * int(store.dtype.numpy_dtype.itemsize)
    if size > MAX_CHUNK_BYTES:
        raise ArrayError(
            f"{location} has chunks of {shown(tuple(chunk))} voxels, {size} bytes each; at most "
            f"{MAX_CHUNK_BYTES >> 30} GiB can be read. Store it in smaller chunks."
        )


def gaps_need_reading(format_: str, location: str) -> bool:
    """Whether only reading tells which chunks of an array are stored.

    If its chunks are read again right afterwards, a cache has to hold them.
    """
    return format_ == "precomputed" or location.startswith(("http://", "https://"))


def _read_without_gaps(view: Any) -> bool:
    """Whether no chunk is missing that a view reads; a cache keeps them for the read that follows.

    tensorstore's statistics need a store that lists its files, which web servers do not, and do
    not work for precomputed volumes (0.1.86). In a missing shard of these, it takes all chunks for
    stored ones of zeros.
    """
    try:
        view.read().result()
    except ValueError as error:
        # Of a damaged chunk, reading reports what is wrong.
        return not str(error).startswith("NOT_FOUND")
    return True


def fully_stored(view: Any) -> bool:
    """Whether every chunk in a view of a tensorstore is stored (it may be damaged)."""
    try:
        return bool(view.storage_statistics(query_fully_stored=True).result().fully_stored)
    except ValueError:
        # A shard with a damaged index. Reading its chunks reports that.
        return True


def in_c_order(store: Any, format_: StoredFormat) -> Any:
    """A tensorstore with its axes in C order; N5's domain has x first, as it is stored.

    So has neuroglancer's, which begins anywhere, and always has channels: a single one has no axis.
    """
    if format_ == "precomputed":
        store = store.T[ts.d[:].translate_to[0]]
        return store[0] if store.shape[0] == 1 else store
    return store.T if format_ == "n5" else store


def _arranged(view: Any, order: tuple[int, ...]) -> Any:
    """A tensorstore with only the axes of `order`, in this order.

    Of a single frame, the axis of time has no part in the volume.
    """
    kept = sorted(order)
    view = view[tuple(slice(None) if axis in kept else 0 for axis in range(view.rank))]
    return view.transpose([kept.index(axis) for axis in order]) if order else view


def spatial_window(
    begin: Sequence[int], end: Sequence[int], shape: tuple[int, ...], path: str
) -> tuple[slice, ...]:
    """The slices from begin to end. Raises ValueError unless they lie within `shape`."""
    inside = len(begin) == len(end) == len(shape) and all(
        0 <= b < e <= s for b, e, s in zip(begin, end, shape, strict=True)
    )
    if not inside:
        raise ValueError(
            f"voxels {tuple(begin)} to {tuple(end)} are not within {path}, whose shape is {shape}"
        )
    return tuple(slice(int(b), int(e)) for b, e in zip(begin, end, strict=True))


def _numeric(store: Any, location: str) -> Any:
    """The tensorstore, cast to a type that numpy and the networks support if need be."""
    wanted = read_as(store.dtype.name, location)
    return store if wanted == store.dtype.name else ts.cast(store, wanted)


def read_as(dtype: str, location: str) -> str:
    """The dtype as which voxels are read. Raises ArrayError for one that is not supported."""
    if dtype not in _NUMBERS and dtype not in _READ_AS:
        raise ArrayError(
            f"{location} holds {dtype}; integers or real numbers are needed, of a type that is "
            f"supported: {', '.join(sorted(_NUMBERS | _READ_AS.keys()))}."
        )
    return _READ_AS.get(dtype, dtype)
