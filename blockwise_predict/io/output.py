"""Output arrays, written by whole chunks or shards."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import tensorstore as ts

from blockwise_predict.errors import ArrayError
from blockwise_predict.io import zarr_metadata
from blockwise_predict.io.consolidated import update_consolidated
from blockwise_predict.io.formats import (
    ATTRIBUTES_FILE,
    DRIVERS,
    Format,
    Node,
    find_array,
    read_node,
)
from blockwise_predict.io.given import Given
from blockwise_predict.io.kvstore import (
    Json,
    kvstore_spec,
    normalize,
    storage_context,
    storage_errors,
    update_json,
)
from blockwise_predict.io.placement import Placement, place_array
from blockwise_predict.io.source import (
    fully_stored,
    in_c_order,
    open_tensorstore,
    spatial_window,
)
from blockwise_predict.io.spec import OutputAxes
from blockwise_predict.io.statement import Axes
from blockwise_predict.io.storage import channel_names, storage_of
from blockwise_predict.io.volume import Volume

if TYPE_CHECKING:
    import zarr


class Write(Protocol):
    """A write in progress."""

    def result(self) -> None:
        """Wait until it is committed; raises what went wrong."""


class OutputArray(Volume):
    """An array [channels, *spatial] to write to, made by `create_output` or `open_output`.

    `write_shape` is what is written at once: a chunk, or a shard of several. Several threads and
    processes may write, because each writes whole ones.
    """

    format: Format
    channels: int

    def __init__(
        self, node: Node, *, store: Any, whole: Any, placement: Placement, axes: Axes
    ) -> None:
        self.path = node.location
        self.format = node.output_format
        self.storage = storage_of(node, store, axes)
        self.axes = OutputAxes(placement.axis_names, placement.time_unit)
        store, whole = (_channels_first(array, self.axes) for array in (store, whole))
        self.channels, *shape = map(int, store.shape)
        self.shape = tuple(shape)
        layout = store.chunk_layout
        self.chunk_shape = tuple(int(n) for n in layout.read_chunk.shape)[1:]
        self.write_shape = tuple(int(n) for n in layout.write_chunk.shape)[1:]
        self.dtype = np.dtype(store.dtype.numpy_dtype)
        self.placement = placement
        self.channel_names = channel_names(node)
        self._store = store
        self._whole = whole

    @property
    def zarr(self) -> zarr.Array:
        """The array as zarr-python opens it, read-only. Raises ArrayError for N5."""
        if self.format == "n5":
            raise ArrayError(f"{self.path} is N5, which zarr-python 3 cannot open. Use `array`.")
        from blockwise_predict.io.zarr_store import open_zarr

        with storage_errors(self.path, "open"):
            return open_zarr(self.path, self.format)

    def write(self, begin: Sequence[int], data: np.ndarray[Any, Any]) -> None:
        """`start_write`, and wait for the commit."""
        self.start_write(begin, data).result()

    def start_write(self, begin: Sequence[int], data: np.ndarray[Any, Any]) -> Write:
        """Begin to write `data` [channels, *spatial] at voxel `begin`.

        `data` must not be changed afterwards. The write's `result()` returns after the commit, or
        raises what went wrong. Raises ValueError for another dtype, and unless `data` cover whole
        chunks or shards (the last may be cut by the array's end): two writers of one would lose
        each other's data.
        """
        end = tuple(b + n for b, n in zip(begin, data.shape[1:], strict=True))
        spatial_window(begin, end, self.shape, self.path)
        if data.shape[0] != self.channels or data.dtype != self.dtype:
            raise ValueError(
                f"{self.path} takes {self.channels} channels of {self.dtype}; "
                f"given were {data.shape[0]} of {data.dtype}"
            )
        for b, e, edge, length in zip(begin, end, self.write_shape, self.shape, strict=True):
            if b % edge or (e % edge and e != length):
                kind = "chunks" if self.write_shape == self.chunk_shape else "shards"
                raise ValueError(
                    f"voxels {tuple(begin)} to {end} do not cover whole {kind} of {self.path}, "
                    f"which are {self.write_shape}"
                )
        grown, data = _to_whole_chunks(begin, data, self.write_shape)
        write: Write = self._whole[(slice(None), *grown)].write(
            # Chunks are compressed from these data themselves, not from a copy.
            data,
            can_reference_source_data_indefinitely=True,
        )
        return write

    def is_stored(self, begin: Sequence[int], end: Sequence[int]) -> bool:
        """Whether every chunk with a voxel of `begin .. end` is stored (it may be damaged)."""
        window = spatial_window(begin, end, self.shape, self.path)
        return fully_stored(self._store[(slice(None), *window)])

    def read(self, begin: Sequence[int], end: Sequence[int]) -> np.ndarray[Any, Any]:
        """Voxels `begin` to `end` as [channels, *spatial]; the fill value where none is written."""
        window = spatial_window(begin, end, self.shape, self.path)
        return np.ascontiguousarray(self._store[(slice(None), *window)].read().result())


def open_output(path: str | Path) -> OutputArray:
    """Open an array that `create_output` made, for writing. Raises ArrayError if there is none."""
    node = find_array(path)
    format_ = node.output_format
    store = open_tensorstore(node)
    placement, axes = place_array(node, tuple(store.shape), Given(), keep_frame=True)
    expected = OutputAxes(placement.axis_names, placement.time_unit)
    if list(axes.kinds) != expected.stored_kinds:
        raise ArrayError(
            f"{node.location} has the axes {', '.join(axes.names)}; an output's first axis is its "
            "channels, or time and then channels. Choose another name."
        )
    channel = expected.channel
    channels, chunk = int(store.shape[channel]), int(store.chunk_layout.write_chunk.shape[channel])
    if channels != chunk:
        raise ArrayError(
            f"{node.location} has {channels} channels in chunks of {chunk}; an output's channels "
            "are never split. Another program has created or changed it."
        )
    return OutputArray(
        node, store=store, whole=_whole_chunks(node, format_), placement=placement, axes=axes
    )


def _whole_chunks(node: Node, format_: Format) -> Any:
    """The array extended to the end of its last chunks or shards, for writing.

    Otherwise a write to one that the array's end cuts would read it first, which costs a read, and
    would always fail once it is damaged.
    """
    spec: Json = {"driver": DRIVERS[node.format], "kvstore": kvstore_spec(node.location)}
    with storage_errors(node.location, "open"):
        store: Any = ts.open(spec, open=True, context=storage_context(node.location)).result()
        metadata = store.spec().to_json()["metadata"]
        sizes = zip(store.shape, store.chunk_layout.write_chunk.shape, strict=True)
        shape = [ceil(size / chunk) * chunk for size, chunk in sizes]
        metadata["dimensions" if format_ == "n5" else "shape"] = shape
        # Otherwise a block of zeros would leave no chunk and look like one never written.
        spec |= {"metadata": metadata, "store_data_equal_to_fill_value": True}
        whole = ts.open(
            {**spec, "assume_metadata": True}, context=storage_context(node.location)
        ).result()
    return in_c_order(whole, format_)


def _channels_first(store: Any, axes: OutputAxes) -> Any:
    """A tensorstore with the channel axis before all others, from the stored order."""
    others = [axis for axis in range(store.rank) if axis != axes.channel]
    return store.transpose([axes.channel, *others]) if axes.channel else store


def _to_whole_chunks(
    begin: Sequence[int], data: np.ndarray[Any, Any], write_shape: tuple[int, ...]
) -> tuple[tuple[slice, ...], np.ndarray[Any, Any]]:
    """The window of the whole chunks or shards that hold `data`, and their values: zeros beyond."""
    shape = [ceil(n / edge) * edge for n, edge in zip(data.shape[1:], write_shape, strict=True)]
    if tuple(shape) != data.shape[1:]:
        # The kernel provides untouched zeros without memory, however large the chunks are.
        padded = np.zeros((len(data), *shape), data.dtype)
        padded[(slice(None), *map(slice, data.shape[1:]))] = data
        data = padded
    return tuple(slice(int(b), int(b) + n) for b, n in zip(begin, shape, strict=True)), data


def output_exists(path: str | Path) -> bool:
    """Whether there is an array at `path`, of any format."""
    node = read_node(normalize(path))
    return node is not None and node.is_array


def read_attributes(path: str | Path) -> Json:
    """The attributes of the array at `path` as they are now. Raises ArrayError without one."""
    return dict(find_array(path).attributes)


def update_attributes(path: str | Path, values: Json) -> None:
    """Merge `values` into the attributes of the array at `path`, atomically.

    Raises ArrayError if there is no array, ValueError for a key that N5 uses for the array itself.
    """
    node = find_array(path)
    n5_own = {"dimensions", "blockSize", "dataType", "compression"} & set(values)
    if node.format == "n5" and n5_own:
        raise ValueError(f"{sorted(n5_own)} describe an N5 array itself and cannot be attributes")
    if node.format == "n5":
        update_json(
            node.location, ATTRIBUTES_FILE["n5"], lambda content: {**(content or {}), **values}
        )
    else:
        zarr_metadata.update_attributes(node.location, node.output_format, values)
        update_consolidated(node.location)
