"""Groups, arrays and attributes of zarr 2 and 3, made by zarr-python.

zarr-python works on a copy of a node's metadata in memory. What it changes is then written through
tensorstore, like the data: each kind of storage needs one client only, and one set of credentials.
A document is replaced only if it has not changed since it was read, so concurrent processes never
undo each other's changes, and no existing array is overwritten.

zarr is imported inside functions: that takes half a second, and workers do not need it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from blockwise_predict.errors import ArrayError
from blockwise_predict.io.formats import Format, read_node
from blockwise_predict.io.kvstore import (
    UPDATE_ATTEMPTS,
    Json,
    open_store,
    read_document,
    replace_document,
    storage_errors,
)
from blockwise_predict.io.spec import LEVEL, OutputSpec

if TYPE_CHECKING:
    from zarr.storage import MemoryStore

_VERSIONS: dict[Format, Literal[2, 3]] = {"zarr2": 2, "zarr3": 3}
# In the order of writing: an array or a group exists once its last document does.
_DOCUMENTS: dict[Format, tuple[str, ...]] = {
    "zarr2": (".zattrs", ".zgroup", ".zarray"),
    "zarr3": ("zarr.json",),
}
# What zarr-python sees of a group's zarr.json. It would drop consolidated metadata, or parse every
# array listed there, and it refuses keys that it does not know.
_GROUP_KEYS = {"zarr_format", "node_type", "attributes"}


def ensure_group(location: str, format_: Format) -> None:
    """Create a group; an existing one is left as it is."""
    import zarr

    if read_node(location) is None:
        _edit(
            location,
            format_,
            lambda store: zarr.open_group(store, mode="a", zarr_format=_VERSIONS[format_]),
        )


def create_array(location: str, spec: OutputSpec, attributes: Json) -> None:
    """Create the array of `spec`, chunks (or shards) in nested folders, channels never split.

    Raises ArrayError if there is an array already.
    """
    import zarr
    from zarr.errors import ContainsArrayError

    def create(store: MemoryStore) -> None:
        try:
            zarr.create_array(
                store,
                shape=tuple(spec.axes.stored(spec.channels, spec.shape)),
                chunks=tuple(spec.axes.stored(spec.channels, spec.chunk_shape)),
                shards=spec.shard_shape
                and tuple(spec.axes.stored(spec.channels, spec.shard_shape)),
                dtype=spec.dtype,
                fill_value=spec.fill_value,
                attributes=attributes,
                zarr_format=_VERSIONS[spec.format],
                **_encoding(spec),
            )
        except ContainsArrayError:
            raise ArrayError(
                f"{location} has just been created by another process. Choose another name."
            ) from None

    _edit(location, spec.format, create)


def _encoding(spec: OutputSpec) -> dict[str, Any]:
    """How chunks are compressed and named, in zarr-python's words."""
    from zarr.codecs import BloscCodec

    itemsize = np.dtype(spec.dtype).itemsize
    # Shuffling bytes helps zstd with numbers of several bytes, and does nothing for others.
    shuffled = itemsize > 1
    blosc = {"cname": "zstd", "clevel": LEVEL, "blocksize": 0}
    if spec.format == "zarr2":
        return {
            "chunk_key_encoding": {"name": "v2", "separator": "/"},
            "compressors": {"id": "blosc", **blosc, "shuffle": int(shuffled)},
        }
    return {
        "dimension_names": tuple(spec.axes.stored_names),
        "compressors": BloscCodec(
            **blosc, shuffle="shuffle" if shuffled else "noshuffle", typesize=itemsize
        ),
    }


def update_attributes(location: str, format_: Format, values: Json) -> None:
    """Merge `values` into the attributes of an array."""
    import zarr

    _edit(
        location,
        format_,
        lambda store: zarr.open_array(
            store, mode="r+", zarr_format=_VERSIONS[format_]
        ).update_attributes(values),
    )


def change_group_attributes(location: str, format_: Format, change: Callable[[Json], Json]) -> None:
    """Replace the attributes of a group by `change(attributes)`, which may run several times."""
    import zarr

    def apply(store: MemoryStore) -> None:
        group = zarr.open_group(
            store, mode="r+", zarr_format=_VERSIONS[format_], use_consolidated=False
        )
        before = group.attrs.asdict()
        after = change(before)
        if after != before:
            group.attrs.put(after)

    _edit(location, format_, apply)


def _edit(location: str, format_: Format, change: Callable[[MemoryStore], object]) -> None:
    """Let zarr-python `change` the metadata of the node at a location."""
    names = _DOCUMENTS[format_]
    with storage_errors(location, "write"):
        store = open_store(location)
        for _ in range(UPDATE_ATTEMPTS):
            before = {name: read_document(store, location, name) for name in names}
            after = _changed({name: found.content for name, found in before.items()}, change)
            if all(
                replace_document(store, name, after[name], before[name])
                for name in names
                if name in after and after[name] != before[name].content
            ):
                return
    raise ArrayError(f"cannot write {location}: other processes keep changing its metadata.")


def _changed(
    documents: dict[str, Json | None], change: Callable[[MemoryStore], object]
) -> dict[str, Json]:
    """The documents as `change` leaves them."""
    from zarr.buffer import cpu
    from zarr.storage import MemoryStore

    buffers, unknown = {}, {}
    for name, content in documents.items():
        if content is not None:
            is_group = content.get("node_type") == "group"
            known = _GROUP_KEYS if is_group else content.keys()
            unknown[name] = {key: value for key, value in content.items() if key not in known}
            document = {key: value for key, value in content.items() if key in known}
            buffers[name] = cpu.Buffer.from_bytes(json.dumps(document).encode())
    try:
        change(MemoryStore(buffers))
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"zarr-python cannot read its metadata ({error!r})") from error
    return {
        name: {**json.loads(buffer.to_bytes()), **unknown.get(name, {})}
        for name, buffer in buffers.items()
    }
