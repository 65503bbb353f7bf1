"""Reading the sample: a window in the middle of each block, a slab around each face."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod, sqrt
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from blockwise_predict.errors import ArrayError
from blockwise_predict.io import OutputArray
from blockwise_predict.plan.parts import ArrayPlan
from blockwise_predict.report.blockgrid import BlockGrid
from blockwise_predict.report.quality.choose import Face
from blockwise_predict.report.quality.seams import DEPTH, differences

# Edge of a window or slab (voxels), and decoded bytes that a sample may take of each array: one
# half for windows, the other for slabs.
EDGE, SAMPLE_BYTES = 64, 256 << 20
# Values of each channel that are kept of a window, for medians and histograms.
KEPT = 2048
_READERS = 4

Item = TypeVar("Item")
Result = TypeVar("Result")
Box = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class BlockSample:
    """Values of a block's window, decoded, for each channel: means, extremes, the shares of values
    at the lowest and at the highest value that can be stored, and of NaN and infinite ones; and
    `kept` values [channel, value] spread over the window.

    `voxels` are those of the window, of which the share `empty_share` has the fill value in all
    channels. Means and extremes are of finite values, NaN if there are none.
    """

    block: int
    voxels: int
    means: NDArray[np.float64]
    lowest: NDArray[np.float64]
    highest: NDArray[np.float64]
    low_share: NDArray[np.float64]
    high_share: NDArray[np.float64]
    empty_share: float
    nonfinite_share: NDArray[np.float64]
    kept: NDArray[np.float32]

    @property
    def constant(self) -> bool:
        """Whether each channel has one value only."""
        return bool((self.lowest == self.highest).all())


@dataclass(frozen=True)
class FaceSample:
    """Means of the absolute differences and of the differences at a face, [channel, plane]."""

    face: Face
    absolute: NDArray[np.float64]
    signed: NDArray[np.float64]


class ArraySampler:
    """Reads samples of one array of a run's output; what it has read, it does not read again."""

    def __init__(self, plan: ArrayPlan, array: OutputArray, grid: BlockGrid) -> None:
        self._plan, self._array, self._grid = plan, array, grid
        self._blocks: dict[int, BlockSample | None] = {}
        self._faces: dict[Face, FaceSample | None] = {}

    @property
    def max_windows(self) -> int:
        """Maximum number of windows, from what decoding one takes."""
        return self._most(tuple(min(EDGE, n) for n in self._array.shape))

    @property
    def max_slabs(self) -> int:
        """Maximum number of slabs, of all axes together."""
        chunk = self._array.chunk_shape
        # A slab reaches into two chunks.
        return self._most(tuple(2 * c for c in chunk[:1]) + (EDGE,) * (len(chunk) - 1))

    def _most(self, window: Sequence[int]) -> int:
        axes = zip(window, self._array.chunk_shape, strict=True)
        decoded = prod(-(-w // c) * c for w, c in axes) * self._plan.voxel_bytes
        return max(1, SAMPLE_BYTES // 2 // decoded)

    def blocks(self, numbers: Iterable[int], progress: Callable[[], None]) -> list[BlockSample]:
        """Samples of blocks; those that cannot be read are left out."""
        return _each(numbers, self._blocks, self._block, progress)

    def faces(self, faces: Iterable[Face], progress: Callable[[], None]) -> list[FaceSample]:
        """Samples of faces; those that cannot be read are left out."""
        return _each(faces, self._faces, self._face, progress)

    def _block(self, number: int) -> BlockSample:
        window = self.window(number)
        data = self._array.read(*window)
        stored = data.reshape(data.shape[0], -1)
        values = self._plan.encoding.decode(stored)
        finite = np.isfinite(values)
        missing = ~finite.any(1)
        with np.errstate(invalid="ignore"):
            sums = np.where(finite, values, 0).sum(1, dtype=np.float64)
            means = sums / np.where(missing, np.nan, finite.sum(1))
        low, high = self._ends(stored)
        return BlockSample(
            block=number,
            voxels=stored.shape[1],
            means=means,
            lowest=np.where(missing, np.nan, np.where(finite, values, np.inf).min(1)),
            highest=np.where(missing, np.nan, np.where(finite, values, -np.inf).max(1)),
            low_share=low,
            high_share=high,
            empty_share=float((stored == 0).all(0).mean()),
            nonfinite_share=1 - finite.mean(1),
            kept=_spread(values, KEPT),
        )

    def _ends(self, stored: NDArray[np.generic]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Shares of values at the ends of the declared range; 0 without one."""
        encoding = self._plan.encoding
        if encoding.step is None:
            return np.zeros(len(stored)), np.zeros(len(stored))
        info = np.iinfo(encoding.dtype)
        return (stored == info.min).mean(1), (stored == info.max).mean(1)

    def _face(self, face: Face) -> FaceSample:
        begin, end = (list(corner) for corner in self.window(face.low))
        place = int(self._grid.edges[face.axis][self._grid.index(face.high)[face.axis]])
        begin[face.axis], end[face.axis] = place - DEPTH, place + DEPTH
        slab = self._array.read(begin, end)
        decided = self._plan.decision is not None
        values = slab if decided else self._plan.encoding.decode(slab)
        return FaceSample(face, *differences(values, face.axis, labels=decided))

    def window(self, number: int) -> Box:
        """The window in the middle of a block: of whole chunks where they are no larger than EDGE;
        of larger ones, inside the one that holds the block's middle."""
        index, spans = self._grid.index(number), []
        for axis, (place, chunk) in enumerate(zip(index, self._array.chunk_shape, strict=True)):
            low, high = (int(self._grid.edges[axis][place + more]) for more in (0, 1))
            spans.append(_middle(low, high, chunk))
        begin, end = zip(*spans, strict=True)
        return begin, end


def _middle(low: int, high: int, chunk: int) -> tuple[int, int]:
    """The bounds of the window of a block `low .. high` along an axis."""
    if chunk > EDGE:
        held = (low + high) // 2 // chunk * chunk
        low, high = max(low, held), min(high, held + chunk)
        first = low + max(0, high - low - EDGE) // 2
        return first, min(first + EDGE, high)
    size = min(high - low, EDGE // chunk * chunk)
    first = low + (high - low - size) // 2 // chunk * chunk
    return first, min(first + size, high)


def _each(
    items: Iterable[Item],
    known: dict[Item, Result | None],
    read: Callable[[Item], Result],
    progress: Callable[[], None],
) -> list[Result]:
    """What is read of items; `known` are those that have been, None where that failed."""

    def one(item: Item) -> Result | None:
        if item not in known:
            try:
                known[item] = read(item)
            except (ArrayError, ValueError, OSError):
                # A chunk that is damaged or gone: predict verify says which.
                known[item] = None
        progress()
        return known[item]

    with ThreadPoolExecutor(_READERS) as readers:
        return [found for found in readers.map(one, items) if found is not None]


def _spread(values: NDArray[np.float32], most: int) -> NDArray[np.float32]:
    """At most `most` values of each channel, spread by the golden ratio."""
    count = values.shape[1]
    if count <= most:
        return values
    places = np.arange(most) * ((sqrt(5) - 1) / 2) % 1 * count
    return values[:, places.astype(np.int64)]
