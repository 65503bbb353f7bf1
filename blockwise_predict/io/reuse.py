"""Decoded chunks that are kept for the blocks that will read them again."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blockwise_predict.io.interface import BlockSource

Chunk = tuple[int, ...]


class DecodedChunks:
    """Reads an array in whole chunks, and keeps those that will be needed, up to `limit` bytes.

    One block is read at a time, so that what it shares with the one before is never decoded twice;
    the storage reads the chunks of a block side by side.
    """

    def __init__(self, array: BlockSource, limit: int) -> None:
        self._array = array
        self._limit = limit
        self._kept: dict[Chunk, NDArray[Any]] = {}
        self._lock = threading.Lock()

    def read(
        self, begin: Sequence[int], end: Sequence[int], *, needed: Callable[[Chunk], bool]
    ) -> NDArray[Any]:
        """Voxels `begin .. end`, `[C, *spatial]`; then keep the chunks that are `needed`."""
        edges = self._array.chunk_shape
        box = [range(b // n, -(-e // n)) for b, e, n in zip(begin, end, edges, strict=True)]
        low = [inside.start * n for inside, n in zip(box, edges, strict=True)]
        with self._lock:
            data = self._read_chunks(box)
            self._keep(box, data, needed)
        inside = (slice(b - o, e - o) for b, e, o in zip(begin, end, low, strict=True))
        # A copy, since whole chunks would stay in memory with the part that is used.
        return np.ascontiguousarray(data[(slice(None), *inside)])

    def _read_chunks(self, box: list[range]) -> NDArray[Any]:
        """All voxels of a box of chunks; those that are not kept are read as one smaller box."""
        missing = [chunk for chunk in itertools.product(*box) if chunk not in self._kept]
        if len(missing) == _count(box):
            return self._array.read(*self._voxels(box))
        low, high = self._voxels(box)
        shape = (e - b for b, e in zip(low, high, strict=True))
        data = np.empty((self._array.channels or 1, *shape), self._array.dtype)
        fresh = [range(0)] * len(box)
        if missing:
            fresh = [
                range(min(indices), max(indices) + 1) for indices in zip(*missing, strict=True)
            ]
            data[self._place(fresh, low)] = self._array.read(*self._voxels(fresh))
        for chunk in itertools.product(*box):
            if not all(index in new for index, new in zip(chunk, fresh, strict=True)):
                data[self._place(_box_of(chunk), low)] = self._kept[chunk]
        return data

    def _keep(self, box: list[range], data: NDArray[Any], needed: Callable[[Chunk], bool]) -> None:
        self._kept = {chunk: voxels for chunk, voxels in self._kept.items() if needed(chunk)}
        taken = sum(voxels.nbytes for voxels in self._kept.values())
        low, _ = self._voxels(box)
        for chunk in itertools.product(*box):
            if chunk in self._kept or not needed(chunk):
                continue
            voxels = data[self._place(_box_of(chunk), low)]
            if taken + voxels.nbytes <= self._limit:
                self._kept[chunk] = voxels.copy()
                taken += voxels.nbytes

    def _voxels(self, box: Sequence[range]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The first voxel of a box of chunks, and the end of those inside the array."""
        sizes = list(zip(box, self._array.chunk_shape, self._array.shape, strict=True))
        low = tuple(inside.start * edge for inside, edge, _ in sizes)
        return low, tuple(min(inside.stop * edge, size) for inside, edge, size in sizes)

    def _place(self, box: Sequence[range], origin: Sequence[int]) -> tuple[slice, ...]:
        """Where a box of chunks lies in an array that begins at a voxel."""
        pairs = zip(*self._voxels(box), origin, strict=True)
        return (slice(None), *(slice(b - o, e - o) for b, e, o in pairs))


def _box_of(chunk: Chunk) -> list[range]:
    return [range(index, index + 1) for index in chunk]


def _count(box: Sequence[range]) -> int:
    return int(np.prod([len(inside) for inside in box]))
