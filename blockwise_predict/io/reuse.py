"""Decoded chunks that are kept for the blocks that will read them again."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blockwise_predict.io.interface import GappedArray

Chunk = tuple[int, ...]
Box = tuple[range, ...]


class DecodedChunks:
    """An array that is read in whole chunks, of which those needed later are kept.

    They take up to `limit` bytes. The array is read in `reading`, by one thread at a time, so that
    what a block shares with the one before is never decoded twice; the storage reads the chunks of
    a block side by side.
    """

    def __init__(self, array: GappedArray, limit: int) -> None:
        self.path = array.path
        self.shape = array.shape
        self.chunk_shape = array.chunk_shape
        self.channels = array.channels
        self.dtype = array.dtype
        self.fill_value = array.fill_value
        self._array = array
        self._limit = limit
        self._kept: dict[Chunk, NDArray[Any]] = {}
        # Those of the kept chunks that are known to be stored.
        self._stored: set[Chunk] = set()
        self._needed: Callable[[Chunk], bool] = lambda _: False
        self._lock = threading.Lock()

    @contextmanager
    def reading(self, needed: Callable[[Chunk], bool]) -> Iterator[GappedArray]:
        """The array as one block reads it, after which these chunks are `needed`."""
        with self._lock:
            self._needed = needed
            yield self

    def is_stored(self, begin: Sequence[int], end: Sequence[int]) -> bool:
        """Whether every chunk with a voxel of `begin .. end` is stored; kept ones are not looked
        for again, as that may mean to read them."""
        box = self._chunks(begin, end)
        unknown = [chunk for chunk in itertools.product(*box) if chunk not in self._stored]
        if unknown and not self._array.is_stored(*self._voxels(_around(unknown))):
            return False
        self._stored.update(unknown)
        return True

    def read(self, begin: Sequence[int], end: Sequence[int]) -> NDArray[Any]:
        """Voxels `begin .. end`, `[C, *spatial]`; then keep the chunks that are needed."""
        box = self._chunks(begin, end)
        data = self._read_chunks(box)
        self._keep(box, data)
        low, _ = self._voxels(box)
        inside = (slice(b - o, e - o) for b, e, o in zip(begin, end, low, strict=True))
        # A copy, since whole chunks would stay in memory with the part that is used.
        return np.ascontiguousarray(data[(slice(None), *inside)])

    def _read_chunks(self, box: Box) -> NDArray[Any]:
        """All voxels of a box of chunks; those that are not kept are read as one smaller box."""
        missing = [chunk for chunk in itertools.product(*box) if chunk not in self._kept]
        low, high = self._voxels(box)
        if len(missing) == prod(map(len, box)):
            return self._array.read(low, high)
        shape = (e - b for b, e in zip(low, high, strict=True))
        data = np.empty((self.channels or 1, *shape), self.dtype)
        fresh = _around(missing)
        if missing:
            data[self._place(fresh, low)] = self._array.read(*self._voxels(fresh))
        for chunk in itertools.product(*box):
            if not missing or not all(i in new for i, new in zip(chunk, fresh, strict=True)):
                data[self._place(_around([chunk]), low)] = self._kept[chunk]
        return data

    def _keep(self, box: Box, data: NDArray[Any]) -> None:
        self._kept = {chunk: kept for chunk, kept in self._kept.items() if self._needed(chunk)}
        taken = sum(voxels.nbytes for voxels in self._kept.values())
        low, _ = self._voxels(box)
        for chunk in itertools.product(*box):
            if chunk in self._kept or not self._needed(chunk):
                continue
            voxels = data[self._place(_around([chunk]), low)]
            if taken + voxels.nbytes <= self._limit:
                self._kept[chunk] = voxels.copy()
                taken += voxels.nbytes
        self._stored &= self._kept.keys()

    def _chunks(self, begin: Sequence[int], end: Sequence[int]) -> Box:
        """The box of chunks with a voxel of `begin .. end`."""
        axes = zip(begin, end, self.chunk_shape, strict=True)
        return tuple(range(b // edge, -(-e // edge)) for b, e, edge in axes)

    def _voxels(self, box: Box) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The first voxel of a box of chunks, and the end of those inside the array."""
        sizes = list(zip(box, self.chunk_shape, self.shape, strict=True))
        low = tuple(inside.start * edge for inside, edge, _ in sizes)
        return low, tuple(min(inside.stop * edge, size) for inside, edge, size in sizes)

    def _place(self, box: Box, origin: Sequence[int]) -> tuple[slice, ...]:
        """Where a box of chunks lies in an array that begins at a voxel."""
        pairs = zip(*self._voxels(box), origin, strict=True)
        return (slice(None), *(slice(b - o, e - o) for b, e, o in pairs))


def _around(chunks: Iterable[Chunk]) -> Box:
    """The smallest box around chunks."""
    return tuple(range(min(indices), max(indices) + 1) for indices in zip(*chunks, strict=True))
