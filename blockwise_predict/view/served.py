"""Images as a zarr group over HTTP: whatever they are stored as, or computed from."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from math import ceil, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blockwise_predict.geometry.grid import Lengths
from blockwise_predict.io.images import Image
from blockwise_predict.io.spec import OutputAxes
from blockwise_predict.io.statement import CHANNEL
from blockwise_predict.view.windows import sample

# Bytes of a chunk, all channels included: small enough to arrive at once, large enough for a disk.
MAX_CHUNK_BYTES = 4 << 20

Voxels = NDArray[np.generic]
Read = Callable[[Sequence[int], Sequence[int]], Awaitable[Voxels]]
"""Voxels `begin` to `end` (half-open) as `[C, *volume]`."""


@dataclass(frozen=True)
class ServedLevel:
    """A level: axes of the volume, time first if there is any; `voxel_size` in nm."""

    shape: tuple[int, ...]
    chunk_shape: tuple[int, ...]
    voxel_size: Lengths
    read: Read

    @property
    def chunks_per_axis(self) -> tuple[int, ...]:
        """Shape of the grid of chunks."""
        return tuple(ceil(n / c) for n, c in zip(self.shape, self.chunk_shape, strict=True))


@dataclass(frozen=True)
class ServedImage:
    """An image under a `name`, its finest level first; all levels begin at `offset` (nm).

    `channels` is None without an axis of channels; a chunk holds all of them. `axis_names` and
    `time_unit` are as in a `Placement`.
    """

    name: str
    levels: tuple[ServedLevel, ...]
    offset: Lengths
    channels: int | None
    dtype: np.dtype[Any]
    axis_names: tuple[str, ...]
    channel_names: tuple[str, ...] = ()
    time_unit: str | None = None

    @property
    def axes(self) -> OutputAxes:
        """The names and units of the axes."""
        return OutputAxes(self.axis_names, self.time_unit)

    def stored(self, channel: Any, volume: Sequence[Any]) -> list[Any]:
        """A value for each stored axis: that of the channels, if they have one, and the others."""
        return [*volume] if self.channels is None else self.axes.stored(channel, volume)

    @property
    def kinds(self) -> list[str]:
        """The kinds of the stored axes, as OME-NGFF calls them."""
        kinds = self.axes.stored_kinds
        return kinds if self.channels is not None else [k for k in kinds if k != CHANNEL]

    async def chunk(self, number: int, index: Sequence[int]) -> bytes | None:
        """The bytes of a whole chunk of a level, zeros beyond its end; None if there is none.

        `index` has one position for each stored axis.
        """
        level = self.levels[number] if number < len(self.levels) else None
        place = self._in_volume(index)
        if level is None or place is None:
            return None
        if any(not 0 <= i < n for i, n in zip(place, level.chunks_per_axis, strict=True)):
            return None
        begin = [i * c for i, c in zip(place, level.chunk_shape, strict=True)]
        sizes = zip(begin, level.chunk_shape, level.shape, strict=True)
        end = [min(b + c, n) for b, c, n in sizes]
        return self._encoded(await level.read(begin, end), level.chunk_shape)

    def _in_volume(self, index: Sequence[int]) -> list[int] | None:
        """The position of a chunk in the volume; None if its index is not that of any chunk."""
        position = [*index]
        if len(position) != len(self.kinds):
            return None
        # The only chunk along the channels.
        if self.channels is not None and position.pop(self.axes.channel) != 0:
            return None
        return position

    def _encoded(self, data: Voxels, chunk_shape: tuple[int, ...]) -> bytes:
        """`[C, *volume]` as the codec `bytes` writes a whole chunk of the stored axes."""
        whole = np.zeros((len(data), *chunk_shape), self.dtype.newbyteorder("<"))
        whole[tuple(map(slice, data.shape))] = data
        if self.channels is None:
            return whole[0].tobytes()
        return np.moveaxis(whole, 0, self.axes.channel).tobytes()


def serve_image(name: str, image: Image, *, for_display: bool) -> ServedImage:
    """An image in storage, with its chunks, or parts of them where they are large.

    `for_display` casts types that neuroglancer does not have: other floats to float32, int64 to
    uint64, or to float32 if a sample has negative values.
    """
    first = image.finest
    dtype = _displayed(image) if for_display else first.dtype
    return ServedImage(
        name=name,
        levels=tuple(
            ServedLevel(
                shape=array.shape,
                chunk_shape=_bounded(array.chunk_shape, dtype.itemsize * (array.channels or 1)),
                voxel_size=array.voxel_size,
                read=_reading(array.read),
            )
            for array in image.levels
        ),
        offset=image.offset,
        channels=first.channels,
        dtype=dtype,
        axis_names=first.placement.axis_names,
        channel_names=first.channel_names,
        time_unit=first.placement.time_unit,
    )


def _reading(read: Callable[[Sequence[int], Sequence[int]], Voxels]) -> Read:
    async def reading(begin: Sequence[int], end: Sequence[int]) -> Voxels:
        return await asyncio.to_thread(read, begin, end)

    return reading


def _displayed(image: Image) -> np.dtype[Any]:
    dtype = image.finest.dtype
    is_negative = dtype == np.int64 and bool((sample(image) < 0).any())
    if dtype.kind == "f" or is_negative:
        return np.dtype(np.float32)
    return np.dtype(np.uint64) if dtype.itemsize == 8 else dtype


def _bounded(chunk_shape: tuple[int, ...], voxel_bytes: int) -> tuple[int, ...]:
    """A chunk, halved along its longest axis until it is small enough."""
    shape = list(chunk_shape)
    while prod(shape) * voxel_bytes > MAX_CHUNK_BYTES and max(shape) > 1:
        longest = shape.index(max(shape))
        shape[longest] = -(-shape[longest] // 2)
    return tuple(shape)
