"""Percentiles, mean and standard deviation of a sample of an array."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from blockwise_predict.errors import ArrayError
from blockwise_predict.io.sampling import ChunkGrid

# Of types with more values than a histogram can hold, the number of voxels that are kept.
KEPT_VALUES = 1 << 22
_HISTOGRAM_BYTES = 2


@dataclass(frozen=True)
class Statistics:
    """The finite values of a sample: distinct `values`, ascending, and how often each occurs.

    `chunks` of `chosen` chunks were stored and could be read.
    """

    values: NDArray[np.float64]
    counts: NDArray[np.int64]
    chunks: int
    chosen: int
    _ends: NDArray[np.int64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ends", np.cumsum(self.counts))

    @property
    def voxels(self) -> int:
        """Number of values."""
        return int(self._ends[-1])

    @property
    def mean(self) -> float:
        """Mean."""
        return float(np.average(self.values, weights=self.counts))

    @property
    def std(self) -> float:
        """Standard deviation of the sample, as numpy's (divided by the number of values)."""
        squares = (self.values - self.mean) ** 2
        return sqrt(float(np.average(squares, weights=self.counts)))

    def percentile(self, percent: float) -> float:
        """A percentile, interpolated linearly between values, as `numpy.percentile`."""
        place = percent / 100 * (self.voxels - 1)
        low = int(place)
        lower, upper = (
            float(self.values[np.searchsorted(self._ends, rank, side="right")])
            for rank in (low, min(low + 1, self.voxels - 1))
        )
        return lower + (place - low) * (upper - lower)

    def __str__(self) -> str:
        stored = "" if self.chunks == self.chosen else f" of {self.chosen} (the others are missing)"
        return f"{self.voxels:,} values in {self.chunks}{stored} chunks, spread evenly over the ROI"


def sample_statistics(grid: ChunkGrid) -> Statistics:
    """The statistics of a sample of the chunks of a grid, all channels together.

    Exact for the sample if the values are integers of 8 or 16 bits; of other types at most
    `KEPT_VALUES` of its voxels, spread evenly, count. Raises ArrayError if none can be read.
    """
    indices, dtype = grid.spread(), grid.array.dtype
    has_histogram = dtype.kind in "iu" and dtype.itemsize <= _HISTOGRAM_BYTES
    lowest = int(np.iinfo(dtype).min) if has_histogram else 0
    histogram = np.zeros(1 << 8 * _HISTOGRAM_BYTES, np.int64)
    share = min(1.0, KEPT_VALUES * dtype.itemsize / (len(indices) * grid.chunk_bytes))
    kept, chunks = [np.zeros(0)], 0
    for data in grid.read(indices):
        if data is None:
            continue
        chunks += 1
        if has_histogram:
            shifted = data.ravel().astype(np.int64) - lowest
            histogram += np.bincount(shifted, minlength=len(histogram))
        else:
            some = _spread(data.ravel(), share).astype(np.float64)
            kept.append(some[np.isfinite(some)])
    if has_histogram:
        values, counts = lowest + np.arange(len(histogram), dtype=np.float64), histogram
    else:
        values, counts = np.unique(np.concatenate(kept), return_counts=True)
    found = counts > 0
    if not found.any():
        raise ArrayError(
            f"{grid.array.path}: no chunk of the sample ({len(indices)} of the ROI) is stored and "
            "can be read. Name the numbers, for example --normalize range:LOW,HIGH."
        )
    return Statistics(values[found], counts[found], chunks, len(indices))


def _spread(values: NDArray[np.generic], share: float) -> NDArray[np.generic]:
    """A share of an array's values; not every n-th one, which can fall into step with its rows."""
    if share == 1:
        return values
    count = max(1, int(share * len(values)))
    places = np.arange(count) * ((sqrt(5) - 1) / 2) % 1 * len(values)
    return values[places.astype(np.int64)]
