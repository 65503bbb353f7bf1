"""A bounded sample of an array's chunks, the same for every run: what is planned depends on it.

Chunks are read whole, since decoding a part of one costs as much, and cropped to the ROI.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from blockwise_predict.io.interface import BlockSource

# Bounds of a sample: decoded bytes, and number of chunks (on object stores each is a request).
SAMPLE_BYTES = 64 << 20
SAMPLE_CHUNKS = 256
# Chunks that are read at a time: the latency of object stores counts, not the processor.
_READERS = 8

Index = tuple[int, ...]


@dataclass(frozen=True)
class ChunkGrid:
    """The chunks of an array with voxels in `begin .. end`, by their index along each axis."""

    array: BlockSource
    begin: tuple[int, ...]
    end: tuple[int, ...]

    @property
    def ranges(self) -> list[range]:
        """The chunks along each axis."""
        return [
            range(b // chunk, -(-e // chunk))
            for b, e, chunk in zip(self.begin, self.end, self.array.chunk_shape, strict=True)
        ]

    @property
    def chunk_bytes(self) -> int:
        """Decoded size of a chunk."""
        array = self.array
        return prod(array.chunk_shape) * array.dtype.itemsize * (array.channels or 1)

    @property
    def sample_size(self) -> int:
        """Maximum number of chunks in a sample; 0 if one alone is larger than a sample may be."""
        return min(SAMPLE_CHUNKS, SAMPLE_BYTES // self.chunk_bytes)

    def box(self, index: Index) -> tuple[Index, Index]:
        """The voxels of a chunk within `begin .. end`."""
        chunk = self.array.chunk_shape
        axes = zip(index, chunk, self.begin, self.end, strict=True)
        bounds = [(max(b, i * c), min(e, (i + 1) * c)) for i, c, b, e in axes]
        return tuple(low for low, _ in bounds), tuple(high for _, high in bounds)

    def spread(self) -> list[Index]:
        """Chunks spread evenly over all axes: all of them, or at least 1 and at most a sample.

        The places are those of an additive recurrence with the powers of the generalised golden
        ratio (M. Roberts, "The unreasonable effectiveness of quasirandom sequences", 2018), which
        never falls into step with a period of the volume, as a regular grid can.
        """
        ranges, wanted = self.ranges, max(1, self.sample_size)
        if prod(map(len, ranges)) <= wanted:
            return list(itertools.product(*ranges))
        ratio = 2.0
        for _ in range(50):  # The root of x ** (d + 1) = x + 1.
            ratio = (1 + ratio) ** (1 / (len(ranges) + 1))
        places = [
            tuple(
                indices[int((0.5 + number * ratio**-axis) % 1 * len(indices))]
                for axis, indices in enumerate(ranges, 1)
            )
            for number in range(wanted)
        ]
        return list(dict.fromkeys(places))

    def columns(self, axis: int) -> list[list[Index]]:
        """Layers of chunks, evenly spaced along an axis, each with the same few places in it.

        The places are at a third and two thirds of each other axis, away from a volume's borders.
        Empty if a sample cannot hold two chunks.
        """
        ranges = self.ranges
        thirds = [
            {r[len(r) // 3], r[(2 * len(r)) // 3]} if number != axis else {0}
            for number, r in enumerate(ranges)
        ]
        places = list(itertools.product(*map(sorted, thirds)))
        places = places[: self.sample_size // 2]
        if not places:
            return []
        along, layers = ranges[axis], self.sample_size // len(places)
        count = min(layers, len(along))
        chosen = {along[(len(along) - 1) * number // max(1, count - 1)] for number in range(count)}
        return [
            [(*place[:axis], layer, *place[axis + 1 :]) for place in places]
            for layer in sorted(chosen)
        ]

    def read(self, indices: Sequence[Index]) -> Iterator[NDArray[np.generic] | None]:
        """The voxels [C, *spatial] of each chunk; None where they are not stored, or damaged."""
        with ThreadPoolExecutor(_READERS) as readers:
            # In batches, so that few chunks are in memory.
            for first in range(0, len(indices), _READERS):
                yield from readers.map(self._read_one, indices[first : first + _READERS])

    def _read_one(self, index: Index) -> NDArray[np.generic] | None:
        begin, end = self.box(index)
        if not self.array.is_stored(begin, end):
            return None
        try:
            return self.array.read(begin, end)
        except ValueError:
            # The blocks that need the chunk report it.
            return None
