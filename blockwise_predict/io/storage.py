"""How an array is stored: its axes, chunks, shards and compression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from blockwise_predict.io.formats import Node
from blockwise_predict.io.kvstore import Json
from blockwise_predict.io.statement import Axes


@dataclass(frozen=True)
class Storage:
    """How an array is stored: its axes in C order, for `describe_array`."""

    axes: Axes
    shape: tuple[int, ...]
    dtype: str
    chunk_shape: tuple[int, ...]
    shard_shape: tuple[int, ...] | None
    compression: str


def storage_of(node: Node, store: Any, axes: Axes) -> Storage:
    """How the array at a node is stored; `store` is its tensorstore, axes in C order."""
    chunks = tuple(int(length) for length in store.chunk_layout.read_chunk.shape)
    written = tuple(int(length) for length in store.chunk_layout.write_chunk.shape)
    return Storage(
        axes=axes,
        shape=tuple(int(length) for length in store.shape),
        dtype=store.dtype.name,
        chunk_shape=chunks,
        shard_shape=written if written != chunks else None,
        compression=_compression(node),
    )


def _compression(node: Node) -> str:
    """The compression in a few words, as the metadata names it."""
    if node.format == "zarr3":
        return _codec_names(node.metadata.get("codecs"))
    if node.format == "precomputed":
        return _scale_compression(node.metadata["scale"])
    compressor = node.metadata.get("compressor" if node.format == "zarr2" else "compression")
    if not isinstance(compressor, dict):
        return "none"
    name = compressor.get("id") or compressor.get("type")
    inner = compressor.get("cname")
    return f"{name} ({inner})" if inner else str(name)


def _scale_compression(scale: Json) -> str:
    """The encoding of a precomputed scale, and the compression of its chunks in shards."""
    sharding = scale.get("sharding")
    inner = sharding.get("data_encoding", "raw") if isinstance(sharding, dict) else "raw"
    encoding = str(scale.get("encoding"))
    names = [name for name in (encoding, str(inner)) if name != "raw"]
    return ", ".join(names) or "none"


def _codec_names(codecs: object) -> str:
    """Codecs of zarr 3; inside a shard those of its chunks."""
    names = []
    for codec in codecs if isinstance(codecs, list) else []:
        name = codec.get("name") if isinstance(codec, dict) else codec
        configuration = codec.get("configuration") if isinstance(codec, dict) else None
        if name == "sharding_indexed" and isinstance(configuration, dict):
            return _codec_names(configuration.get("codecs"))
        names.append(str(name))
    return ", ".join(name for name in names if name != "bytes") or "none"


def channel_names(node: Node) -> tuple[str, ...]:
    """The names of an array's channels, where its attributes have them."""
    names = node.attributes.get("channel_names")
    return tuple(map(str, names)) if isinstance(names, list) else ()
