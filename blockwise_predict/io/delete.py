"""Deleting an array: its chunks and its metadata, and nothing else in its folder."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from math import ceil
from pathlib import Path
from typing import Any

from blockwise_predict.errors import ArrayError
from blockwise_predict.io.formats import ATTRIBUTES_FILE, METADATA_FILE, Node
from blockwise_predict.io.kvstore import Json, is_local, normalize, open_store, storage_errors
from blockwise_predict.io.spec import OutputSpec

# Number of concurrent deletions on an object store.
_AT_ONCE = 256
# Suffix of the file that tensorstore writes and then renames. A killed process leaves it behind.
_UNFINISHED = ".__lock"


@dataclass(frozen=True)
class ChunkKeys:
    """The keys of an array's chunks or shards: `first`, and indices below `counts`.

    They are joined by `separator`.
    """

    first: tuple[str, ...]
    counts: tuple[int, ...]
    separator: str

    def holds(self, key: str) -> bool:
        """Whether a key names one of the chunks, or the unfinished write of one."""
        parts = key.removesuffix(_UNFINISHED).split(self.separator)
        return len(parts) == len(self.first) + len(self.counts) and self._begins(parts)

    def leads_to(self, folder: str) -> bool:
        """Whether a folder inside the array may hold chunks."""
        return self.separator == "/" and self._begins(folder.split("/"))

    def _begins(self, parts: list[str]) -> bool:
        names, indices = parts[: len(self.first)], parts[len(self.first) :]
        return names == list(self.first[: len(names)]) and all(
            part.isascii() and part.isdigit() and part == str(int(part)) and int(part) < count
            for part, count in zip(indices, self.counts, strict=False)
        )


def chunk_keys(node: Node) -> ChunkKeys:
    """The keys of an array's chunks. Raises ArrayError if its metadata do not define them."""
    format_ = node.output_format
    try:
        return {"zarr2": _zarr2, "zarr3": _zarr3, "n5": _n5}[format_](node.metadata)
    except (KeyError, TypeError, ValueError, ZeroDivisionError, OverflowError) as error:
        raise ArrayError(
            f"{node.location}: its metadata do not say which files are its chunks ({error!r})."
        ) from None


def output_keys(spec: OutputSpec) -> ChunkKeys:
    """The keys of the chunks, or shards, of an output that is to be created."""
    counts = tuple(spec.axes.stored(1, _counts(list(spec.shape), list(spec.write_shape))))
    if spec.format == "n5":
        return ChunkKeys((), counts[::-1], "/")
    return ChunkKeys(("c",) if spec.format == "zarr3" else (), counts, "/")


def _zarr2(metadata: Json) -> ChunkKeys:
    counts = _counts(metadata["shape"], metadata["chunks"])
    return ChunkKeys((), counts, metadata.get("dimension_separator", "."))


def _zarr3(metadata: Json) -> ChunkKeys:
    chunks = metadata["chunk_grid"]["configuration"]["chunk_shape"]
    encoding = metadata["chunk_key_encoding"]
    is_default = encoding["name"] == "default"
    separator = encoding.get("configuration", {}).get("separator", "/" if is_default else ".")
    first = ("c",) if is_default else ()
    return ChunkKeys(first, _counts(metadata["shape"], chunks), separator)


def _n5(metadata: Json) -> ChunkKeys:
    return ChunkKeys((), _counts(metadata["dimensions"], metadata["blockSize"]), "/")


def _counts(shape: list[int], chunks: list[int]) -> tuple[int, ...]:
    return tuple(ceil(n / chunk) for n, chunk in zip(shape, chunks, strict=True))


def check_deletable(path: str | Path) -> None:
    """Raise ArrayError for an array that is a symbolic link: its target is never deleted."""
    location = normalize(path)
    if is_local(location) and os.path.islink(location):
        raise ArrayError(
            f"{location} is a symbolic link to {os.path.realpath(location)}, and nothing is "
            "deleted through a link. Remove the link, or name the array itself."
        )


def delete_array(node: Node) -> list[str]:
    """Delete an array; returns the names of files and folders in its folder that are not its own.

    The metadata go last: chunks that outlive them would reappear in the next array there. Raises
    ArrayError for a symbolic link, and if something cannot be deleted.
    """
    check_deletable(node.location)
    with storage_errors(node.location, "delete"):
        delete = delete_local if is_local(node.location) else _delete_remote
        return delete(node.location, chunk_keys(node), metadata_files(node))


def metadata_files(node: Node) -> list[str]:
    """The files that make a folder an array, in the order in which they are deleted."""
    last = METADATA_FILE[node.output_format]
    return [name for name in (ATTRIBUTES_FILE[node.output_format],) if name != last] + [last]


def delete_local(location: str, keys: ChunkKeys, metadata: list[str]) -> list[str]:
    """Delete an array's chunks, the folders that this leaves empty, and its metadata."""
    left = [name for name in delete_chunks(location, keys) if name not in metadata]
    for name in metadata:
        Path(location, name).unlink(missing_ok=True)
        Path(location, name + _UNFINISHED).unlink(missing_ok=True)
    left = [name for name in left if os.path.lexists(os.path.join(location, name))]
    if not left:
        os.rmdir(location)
    return left


def delete_chunks(location: str, keys: ChunkKeys, folder: str = "") -> list[str]:
    """Delete the chunks below a folder of an array; returns the names of all other files there."""
    left = []
    for name, is_folder in list(_entries(location, folder)):
        path = os.path.join(location, name)
        if is_folder and keys.leads_to(name):
            inside = delete_chunks(location, keys, name)
            left += inside
            if not inside:
                os.rmdir(path)
        elif not is_folder and keys.holds(name):
            os.unlink(path)
        else:
            left.append(name)
    return sorted(left)


def colliding_files(location: str, keys: ChunkKeys) -> list[str]:
    """Names of files in a folder that an array with such chunk keys would take for its chunks."""
    if not is_local(location):
        with storage_errors(location, "list"):
            return [key for key in _list(open_store(location)) if keys.holds(key)]
    return list(_chunks(location, keys, "")) if os.path.isdir(location) else []


def _chunks(location: str, keys: ChunkKeys, folder: str) -> Iterator[str]:
    for name, is_folder in _entries(location, folder):
        if is_folder and keys.leads_to(name):
            yield from _chunks(location, keys, name)
        elif keys.holds(name):
            yield name


def _entries(location: str, folder: str) -> Iterator[tuple[str, bool]]:
    """Entries of a folder, relative to the location, and whether each is a folder (not a link)."""
    with os.scandir(os.path.join(location, folder)) as entries:
        for entry in entries:
            name = f"{folder}/{entry.name}" if folder else entry.name
            yield name, entry.is_dir(follow_symlinks=False)


def _delete_remote(location: str, keys: ChunkKeys, metadata: list[str]) -> list[str]:
    store = open_store(location)
    names = _list(store)
    own = [name for name in names if keys.holds(name)]
    delete_keys(store, own)
    for name in metadata:
        store.write(name, None).result()
    return sorted(name for name in names if name not in metadata and not keys.holds(name))


def delete_keys(store: Any, names: Iterable[str]) -> None:
    """Delete files or objects of an open store, those that are there."""
    remaining = iter(names)
    while deletions := [store.write(name, None) for name in islice(remaining, _AT_ONCE)]:
        for deletion in deletions:
            deletion.result()


def _list(store: Any) -> list[str]:
    return [key.decode(errors="replace") for key in store.list().result()]
