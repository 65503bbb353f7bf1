"""Reading input whose chunks may be missing or damaged, by a rule that the user chooses.

In zarr and N5 a chunk that is not stored means the fill value, and so it is read by default. A
writer that leaves out empty chunks and a copy that was interrupted look the same, and only the user
can tell which it is: so what was filled is counted and reported.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from blockwise_predict.config.values import BadInput
from blockwise_predict.errors import PredictError
from blockwise_predict.io.interface import BlockSource, GappedArray
from blockwise_predict.io.kvstore import reason_of
from blockwise_predict.io.resampled import ResampledArray, stored_box
from blockwise_predict.io.sampling import ChunkGrid

# Number of chunks that are checked before a run.
SAMPLED_CHUNKS = 64

Box = tuple[tuple[int, ...], tuple[int, ...]]


class BadInputError(PredictError):
    """A chunk of the input is missing or damaged."""


def missing_sample(array: BlockSource, begin: Sequence[int], end: Sequence[int]) -> tuple[int, int]:
    """Check some stored chunks, spread evenly over the voxels `begin .. end`.

    Returns how many of them are not stored, and how many were checked.
    """
    array, begin, end = stored_box(array, begin, end)
    ranges = ChunkGrid(array, begin, end).ranges
    # Python's integers: an array can have more than 2**64 chunks.
    total = prod(len(indices) for indices in ranges)
    count = min(SAMPLED_CHUNKS, total)
    places = {(total - 1) * number // max(1, count - 1) for number in range(count)}
    missing = 0
    for place in places:
        low = _first_voxel_of(place, ranges, array.chunk_shape)
        missing += not array.is_stored(low, tuple(voxel + 1 for voxel in low))
    return missing, len(places)


def _first_voxel_of(
    place: int, ranges: Sequence[range], chunk_shape: tuple[int, ...]
) -> tuple[int, ...]:
    """The first voxel of the chunk number `place`, in C order, of a box of chunks."""
    low = []
    for indices, chunk in zip(reversed(ranges), reversed(chunk_shape), strict=True):
        place, position = divmod(place, len(indices))
        low.append(indices[position] * chunk)
    return tuple(reversed(low))


class CheckedInput:
    """An array as one block reads it, with a rule for chunks that cannot be read.

    `filled` counts the chunks replaced by the fill value; `note` names the first of them.
    """

    def __init__(self, array: GappedArray, rule: BadInput) -> None:
        self.shape = array.shape
        self.filled = 0
        self.note = ""
        self._array = array
        self._rule = rule

    def read(self, begin: tuple[int, ...], end: tuple[int, ...]) -> NDArray[np.generic]:
        """Voxels `begin .. end`, `[C, *spatial]`. Raises BadInputError if the rule demands it."""
        if isinstance(self._array, ResampledArray):
            return self._read_resampled(self._array, begin, end)
        if not self._array.is_stored(begin, end):
            self._report_missing(begin, end)
        try:
            return self._array.read(begin, end)
        except ValueError as error:
            if self._rule != "fill":
                raise BadInputError(f"{self._array.path}: {reason_of(error)}") from error
        return self._read_by_chunk(begin, end)

    def _read_resampled(
        self, array: ResampledArray, begin: tuple[int, ...], end: tuple[int, ...]
    ) -> NDArray[np.generic]:
        """Read by the rule what is stored, chunk by chunk where need be, and resample it."""
        stored = CheckedInput(array.source, self._rule)
        data = array.read_by(stored.read, begin, end)
        self._count(stored.filled, stored.note)
        return data

    def _report_missing(self, begin: tuple[int, ...], end: tuple[int, ...]) -> None:
        missing = [box for box in self._chunks(begin, end) if not self._array.is_stored(*box)]
        if not missing:
            return
        what = f"the chunk at voxel {self._first_voxel(missing[0])} is not stored"
        if self._rule in ("fail", "skip"):
            raise BadInputError(
                f"{self._array.path}: {what}. If this volume leaves out empty chunks on purpose, "
                "run again with --bad-input fill-missing, the default."
            )
        self._count(len(missing), f"{self._array.path}: {what}")

    def _read_by_chunk(self, begin: tuple[int, ...], end: tuple[int, ...]) -> NDArray[np.generic]:
        """Read chunk by chunk, with the fill value for chunks that cannot be read."""
        shape = [e - b for b, e in zip(begin, end, strict=True)]
        data = np.full(
            (self._array.channels or 1, *shape), self._array.fill_value, self._array.dtype
        )
        for low, high in self._chunks(begin, end):
            place = tuple(slice(a - b, c - b) for a, b, c in zip(low, begin, high, strict=True))
            try:
                data[(slice(None), *place)] = self._array.read(low, high)
            except ValueError as error:
                what = f"the chunk at voxel {self._first_voxel((low, high))} is damaged"
                self._count(1, f"{self._array.path}: {what} ({reason_of(error)})")
        return data

    def _chunks(self, begin: tuple[int, ...], end: tuple[int, ...]) -> Iterator[Box]:
        """The parts of a box that lie in one chunk each."""
        cuts = [
            [b, *range(b - b % chunk + chunk, e, chunk), e]
            for b, e, chunk in zip(begin, end, self._array.chunk_shape, strict=True)
        ]
        for parts in itertools.product(*(itertools.pairwise(cut) for cut in cuts)):
            yield tuple(low for low, _ in parts), tuple(high for _, high in parts)

    def _first_voxel(self, box: Box) -> tuple[int, ...]:
        """The first voxel of the chunk that holds a box."""
        return tuple(
            b - b % chunk for b, chunk in zip(box[0], self._array.chunk_shape, strict=True)
        )

    def _count(self, chunks: int, note: str) -> None:
        self.filled += chunks
        self.note = self.note or note
