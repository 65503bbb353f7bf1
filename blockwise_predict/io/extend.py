"""Making an output array larger while keeping its chunks."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import tensorstore as ts

from blockwise_predict.errors import ArrayError
from blockwise_predict.io.consolidated import update_consolidated
from blockwise_predict.io.delete import (
    chunk_keys,
    delete_chunks,
    delete_keys,
    delete_local,
    metadata_files,
)
from blockwise_predict.io.formats import DRIVERS, Format, find_array
from blockwise_predict.io.kvstore import (
    is_local,
    kvstore_spec,
    normalize,
    open_store,
    storage_context,
    storage_errors,
)
from blockwise_predict.io.output import OutputArray, open_output
from blockwise_predict.io.source import in_c_order
from blockwise_predict.io.spec import OutputAxes


def grow_output(path: str, shape: tuple[int, ...]) -> None:
    """Make an output larger at its ends: `shape` is its new spatial shape, voxels.

    Chunks or shards that the old end cut now hold more voxels. They are removed, because they have
    to be written again and must not look complete until then. Raises ArrayError if that fails.
    """
    output = open_output(path)
    node = find_array(path)
    spec = {"driver": DRIVERS[node.format], "kvstore": kvstore_spec(node.location)}
    with storage_errors(path, "extend"):
        delete_keys(open_store(node.location), _cut_keys(output, shape))
        store = ts.open(spec, open=True, context=storage_context(node.location)).result()
        store = in_c_order(store, node.format)
        end = output.axes.stored(output.channels, shape)
        store.resize(exclusive_max=end, resize_metadata_only=True, expand_only=True).result()
    update_consolidated(normalize(path))


def _cut_keys(output: OutputArray, shape: tuple[int, ...]) -> Iterator[str]:
    """The files that the array's end cuts along an axis where its new `shape` is larger."""
    counts = _counts(output)
    lengths = zip(output.shape, shape, output.write_shape, strict=True)
    for axis, (old, new, edge) in enumerate(lengths):
        if new > old and old % edge:
            ranges = [range(count) for count in counts]
            ranges[axis] = range(counts[axis] - 1, counts[axis])
            for index in itertools.product(*ranges):
                yield chunk_key(output.format, index, output.axes)


def _counts(output: OutputArray) -> list[int]:
    """Numbers of files along the spatial axes."""
    return [-(-n // edge) for n, edge in zip(output.shape, output.write_shape, strict=True)]


def check_movable(path: str) -> None:
    """Raise ArrayError if an output's chunks cannot be moved."""
    location = normalize(path)
    if os.path.islink(location):
        raise ArrayError(
            f"{location} is a symbolic link; only the array itself, {os.path.realpath(location)}, "
            "can be extended before its begin."
        )
    if not is_local(location):
        raise ArrayError(
            f"{path} lies on an object store, where an output can be extended only at its end. "
            "Give another --output for the ROI before its begin."
        )


def aside(path: str) -> Path:
    """Where an output's old array is kept while its chunks move."""
    location = Path(normalize(path))
    return location.with_name(f".{location.name}.before-extension")


def move_chunks(path: str, shift: tuple[int, ...]) -> None:
    """Move the chunks or shards from `aside(path)` to the array at `path`, `shift` of them further,
    and other files beside them; delete the rest of the old array.

    Each is in exactly one of the two at any time, so an interrupted move can be repeated.
    """
    old, new = aside(path), Path(normalize(path))
    output = open_output(path)
    with storage_errors(path, "extend"):
        for index in _indices(_counts(output), shift):
            source = old / chunk_key(output.format, index, output.axes)
            if source.exists():
                target = new / chunk_key(output.format, _moved(index, shift), output.axes)
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(source, target)
        _move_remainder(old, new)


def chunk_key(format_: Format, index: tuple[int, ...], axes: OutputAxes) -> str:
    """The file of a chunk or shard of an output, by its spatial index; channels are never split."""
    numbers = list(map(str, axes.stored(0, index)))
    if format_ == "n5":
        return "/".join(numbers[::-1])
    return "/".join(["c", *numbers] if format_ == "zarr3" else numbers)


def _indices(counts: list[int], shift: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Files of the old array, which lies within the new one."""
    return itertools.product(*(range(n - s) for n, s in zip(counts, shift, strict=True)))


def _moved(index: tuple[int, ...], shift: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(i + s for i, s in zip(index, shift, strict=True))


def _move_remainder(old: Path, new: Path) -> None:
    """Move files that are not part of the old array to the new one; then remove the old one."""
    node = find_array(new)
    # The new array's keys include all of the old one's.
    keys, metadata = chunk_keys(node), metadata_files(node)
    for name in delete_chunks(str(old), keys):
        if name not in metadata:
            target = new / name
            if os.path.lexists(target):
                target = target.with_name(f"{target.name}.before-extension")
            target.parent.mkdir(parents=True, exist_ok=True)
            os.rename(old / name, target)
    delete_local(str(old), keys, metadata)
