"""zarr-python's way to files anywhere that tensorstore reaches: one client, the same credentials.

Imports zarr, which takes half a second: to be imported where it is needed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import tensorstore as ts
import zarr
from zarr.abc.buffer import Buffer, BufferPrototype
from zarr.abc.store import (
    ByteRequest,
    OffsetByteRequest,
    RangeByteRequest,
    Store,
    SuffixByteRequest,
)

from blockwise_predict.io.formats import Format
from blockwise_predict.io.kvstore import is_local, open_store


def open_zarr(location: str, format_: Format) -> zarr.Array:
    """The zarr array at a normalized location, read-only.

    On a disk zarr-python reads by itself. Raises what zarr-python does if it cannot be opened.
    """
    store = location if is_local(location) else KeyValueStore(location)
    return zarr.open_array(store, mode="r", zarr_format=2 if format_ == "zarr2" else 3)


class KeyValueStore(Store):
    """A folder at a normalized location as a store of zarr-python's; it can only be read."""

    supports_writes = False
    supports_deletes = False
    supports_partial_writes = False
    supports_listing = True

    def __init__(self, location: str) -> None:
        super().__init__(read_only=True)
        self.location = location
        self._store = open_store(location)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeyValueStore) and other.location == self.location

    def __str__(self) -> str:
        return self.location

    def __reduce__(self) -> tuple[Any, ...]:
        return KeyValueStore, (self.location,)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """The bytes at a key, or some of them; None if there are none."""
        result = await self._store.read(key, byte_range=_range(byte_range))
        return prototype.buffer.from_bytes(result.value) if result.state == "value" else None

    async def get_partial_values(
        self,
        prototype: BufferPrototype,
        key_ranges: Iterable[tuple[str, ByteRequest | None]],
    ) -> list[Buffer | None]:
        """`get` of each key and range."""
        return await asyncio.gather(*(self.get(key, prototype, part) for key, part in key_ranges))

    async def exists(self, key: str) -> bool:
        """Whether there is something at a key."""
        result = await self._store.read(key, byte_range=slice(0, 0))
        return result.state == "value"

    async def set(self, key: str, value: Buffer) -> None:  # noqa: ARG002
        """Refused."""
        self._check_writable()

    async def delete(self, key: str) -> None:  # noqa: ARG002
        """Refused."""
        self._check_writable()

    async def list(self) -> AsyncIterator[str]:
        """All keys."""
        async for key in self.list_prefix(""):
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """The keys that begin with a prefix."""
        after = prefix[:-1] + chr(ord(prefix[-1]) + 1) if prefix else ""
        for key in await self._store.list(ts.KvStore.KeyRange(prefix, after)):
            yield key.decode()

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """The names of what is in a folder."""
        folder = f"{prefix.rstrip('/')}/" if prefix else ""
        keys = [key async for key in self.list_prefix(folder)]
        for name in dict.fromkeys(key[len(folder) :].split("/")[0] for key in keys):
            yield name


def _range(part: ByteRequest | None) -> slice | None:
    match part:
        case RangeByteRequest(start, end):
            return slice(start, end)
        case OffsetByteRequest(offset):
            return slice(offset, None)
        case SuffixByteRequest(length):
            return slice(-length, None)
    return None
