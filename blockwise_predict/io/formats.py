"""What lies at a location: a zarr 2, zarr 3 or N5 array or group, and its attributes."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from blockwise_predict.config.values import Format as Format
from blockwise_predict.errors import ArrayError
from blockwise_predict.io import precomputed
from blockwise_predict.io.foreign import foreign_kind
from blockwise_predict.io.kvstore import (
    DeniedError,
    Json,
    check_bucket,
    is_local,
    join,
    name_of,
    normalize,
    parents,
    read_json,
    root_and_parts,
)

StoredFormat = Literal[Format, "precomputed"]
"""Formats that are read; neuroglancer's precomputed is not written."""

DRIVERS: dict[StoredFormat, str] = {
    "zarr2": "zarr",
    "zarr3": "zarr3",
    "n5": "n5",
    "precomputed": "neuroglancer_precomputed",
}
"""tensorstore's names of the formats."""

ATTRIBUTES_FILE: dict[StoredFormat, str] = {
    "precomputed": precomputed.INFO,
    "zarr2": ".zattrs",
    "zarr3": "zarr.json",
    "n5": "attributes.json",
}
METADATA_FILE: dict[StoredFormat, str] = {
    "precomputed": precomputed.INFO,
    "zarr2": ".zarray",
    "zarr3": "zarr.json",
    "n5": "attributes.json",
}
"""The file that makes a folder an array."""

CONVERSION = "blockwise_predict_conversion"
"""The attribute of arrays that `predict convert` writes: from what, and whether completely."""

_LISTED = 12
_MAX_FOLDERS = 2000
# How many folders up groups are searched for if no name ends in .zarr or .n5.
_MAX_PARENTS = 4


@dataclass(frozen=True)
class Node:
    """An array or a group: its `metadata` (as in the file) and its `attributes`."""

    location: str
    format: StoredFormat
    is_array: bool
    metadata: Json
    attributes: Json

    @property
    def output_format(self) -> Format:
        """The format. Raises ArrayError for one that can only be read."""
        if self.format == "precomputed":
            raise ArrayError(
                f"{self.location} is neuroglancer precomputed, which can only be read. Choose an "
                "output in a .zarr or .n5 container."
            )
        return self.format

    @property
    def metadata_sha256(self) -> str:
        """sha256 of the metadata that say how the array is stored; attributes do not count."""
        metadata = {key: value for key, value in self.metadata.items() if key != "attributes"}
        text = json.dumps([METADATA_FILE[self.format], metadata], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def attributes_name(self) -> str:
        """The attributes' file, relative to the container, for messages."""
        return join(path_in_container(self.location), ATTRIBUTES_FILE[self.format]).lstrip("/")


def read_node(location: str) -> Node | None:
    """The array or group at a normalized location; None if there is neither.

    Raises ArrayError if what is there cannot be read.
    """
    files = _Files(location)
    node = _read_zarr3(files) or _read_zarr2(files) or _read_n5(files)
    if node is None and files.denied is not None:
        raise files.denied
    return node


class _Files:
    """Metadata files of a location; those that are denied count as missing.

    Public buckets that list nothing deny what does not exist: `denied` is that error, which tells
    the truth only if nothing else is there.
    """

    def __init__(self, location: str) -> None:
        self.location = location
        self.denied: DeniedError | None = None

    def read(self, name: str) -> Json | None:
        """The JSON object in a file; None if it is missing."""
        try:
            return read_json(self.location, name)
        except DeniedError as error:
            self.denied = error
            return None


def _read_zarr3(files: _Files) -> Node | None:
    metadata = files.read("zarr.json")
    if metadata is None:
        return None
    is_array = metadata.get("node_type") == "array"
    return Node(files.location, "zarr3", is_array, metadata, _object(metadata.get("attributes")))


def _read_zarr2(files: _Files) -> Node | None:
    array = files.read(".zarray")
    group = files.read(".zgroup") if array is None else None
    if array is None and group is None:
        return None
    attributes = files.read(".zattrs") or {}
    return Node(files.location, "zarr2", array is not None, array or group or {}, attributes)


def _read_n5(files: _Files) -> Node | None:
    metadata = files.read("attributes.json")
    if metadata is None:
        return None
    return Node(files.location, "n5", "dimensions" in metadata, metadata, metadata)


def _object(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def container_of(location: str) -> str | None:
    """The folder of a location whose name ends in .zarr or .n5 (the outermost), if there is one."""
    root, parts = root_and_parts(location)
    for index, part in enumerate(parts):
        if part.lower().endswith((".zarr", ".n5")):
            return join(root, *parts[: index + 1])
    return None


def path_in_container(location: str) -> str:
    """The location relative to its container; its last two names if it has none."""
    container = container_of(location)
    if container is None:
        return "/".join(root_and_parts(location)[1][-2:])
    return location[len(container) :].strip("/")


def groups_above(location: str) -> list[Node]:
    """The groups that hold an array, nearest first, up to its container."""
    container = container_of(location)
    above = parents(location)
    top = above.index(container) + 1 if container in above else _MAX_PARENTS
    nodes = (_readable(parent) for parent in above[:top] if is_local(parent) or name_of(parent))
    return [node for node in nodes if node is not None and not node.is_array]


def _readable(location: str) -> Node | None:
    """`read_node`; None if access is denied."""
    try:
        return read_node(location)
    except DeniedError:
        return None


def guess_format(path: str | Path) -> Format | None:
    """The format in which an array at `path` is to be written, as far as the path tells.

    The format of an existing container; else N5 for a name that ends in .n5; else None.
    """
    location = normalize(path)
    container = container_of(location)
    above = parents(location)
    inside = above[: above.index(container) + 1] if container in above else []
    for place in (location, *inside):
        node = read_node(place)
        if node is not None:
            return node.output_format
    return "n5" if container is not None and container.lower().endswith(".n5") else None


def names_array(path: str | Path) -> bool:
    """Whether a path can only mean an array or a group: a URL, in a container, or there.

    Also files that would have to be converted into one.
    """
    location = normalize(path)
    if not is_local(location) or container_of(location) is not None or foreign_kind(location):
        return True
    return os.path.isdir(location) and (
        read_node(location) is not None or precomputed.find_scale(location) is not None
    )


def find_array(path: str | Path) -> Node:
    """The array at `path`. Raises ArrayError, listing the arrays nearby, if there is none."""
    location = normalize(path)
    node = read_node(location)
    if node is not None and node.is_array:
        return node
    if node is None and is_local(location) and (kind := foreign_kind(location)) is not None:
        raise ArrayError(
            f"{path} is {kind}, which is not read directly. Run predict convert "
            f"{shlex.quote(str(path))} volume.zarr/raw first."
        )
    if node is None and (scale := precomputed.find_scale(location)) is not None:
        precomputed.check_chunks(scale)
        return Node(scale.location, "precomputed", True, scale.metadata, {})
    problem = (
        "is a group, not an array"
        if node is not None
        else "there is no zarr, N5 or precomputed array"
    )
    raise ArrayError(f"{location}: {problem}. {_suggestion(location)}")


def _suggestion(location: str) -> str:
    if not is_local(location):
        check_bucket(location)
        return "Name the array itself, for example .../volume.zarr/raw."
    folder = location
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    container = container_of(location)
    if container is None or not os.path.isdir(container):
        if folder != location:
            return f"The path exists only as far as {folder}."
        container = folder
    arrays = list_arrays(folder) or list_arrays(container)
    if not arrays:
        return f"No array was found below {folder}."
    names = ", ".join(arrays[:_LISTED]) + (", ..." if len(arrays) > _LISTED else "")
    return f"Arrays found: {names}."


def list_arrays(folder: str) -> list[str]:
    """Paths of the arrays below a local folder, sorted; stops early in a huge tree."""
    found: list[str] = []
    pending = [folder]
    for _ in range(_MAX_FOLDERS):
        if not pending or len(found) > _LISTED:
            break
        current = pending.pop(0)
        node = read_node(current)
        if node is not None and node.is_array:
            found.append(current)
        elif os.access(current, os.R_OK | os.X_OK):
            # Not the entry's own is_dir, which raises for links that may not be followed.
            pending += sorted(e.path for e in os.scandir(current) if os.path.isdir(e.path))
    return sorted(found)
