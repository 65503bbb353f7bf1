"""Resampling to voxels of another size: which stored voxels count for a new one, and how much.

Both grids begin at the same corner. With voxels that are `ratio` times as long, the centre of the
new voxel j is at c = (j + 1/2) * ratio stored voxels, and that of the stored voxel i is d = i + 1/2
- c from it. Its weight is that of a triangle of half-width s = max(1, ratio):

    w = max(0, 1 - |d| / s)

divided by the sum of the weights of all voxels within the volume. So smaller voxels are linearly
interpolated, and larger ones antialiased, as by PIL (`precompute_coeffs` of
src/libImaging/Resample.c, with BILINEAR) and torch's `interpolate(mode="bilinear",
antialias=True)`. Where a ratio above 1 is not a whole number, the mean of d under these weights is
not 0: those voxels would be up to 0.09 stored voxels from their place. There the weights are
w * (sum(w d^2) - d * sum(w d)), under which it is, so that a linear ramp stays itself.

Weights are computed from whole numbers for each voxel, and terms added in a fixed order in float64.
So a voxel's value depends on neither the box in which it is computed nor the machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

import numpy as np
from numpy.typing import NDArray

FILTER = "triangle of half-width max(1, ratio) voxels along each axis, normalised within the volume"


@dataclass(frozen=True)
class Taps:
    """For each of some new voxels, the stored voxels that count, `[voxel, tap]`.

    `index` counts from the first stored voxel that counts for any of them. The last taps of a voxel
    may have weight 0.
    """

    index: NDArray[np.int64]
    weight: NDArray[np.float64]

    @property
    def is_identity(self) -> bool:
        """Whether the stored voxels are taken as they are."""
        return self.index.shape[1] == 1


@dataclass(frozen=True)
class AxisResampling:
    """An axis of `size` stored voxels, resampled to voxels that are `ratio` times as long."""

    size: int
    ratio: Fraction

    @property
    def resampled_size(self) -> int:
        """Number of new voxels: those whose centre lies within the stored ones."""
        return max(0, ceil(self.size / self.ratio - Fraction(1, 2)))

    def resampled_length(self, length: int) -> int:
        """About the number of new voxels in a length of stored ones; at least one."""
        return max(1, round(length / self.ratio))

    def stored_range(self, begin: int, end: int) -> tuple[int, int]:
        """The stored voxels (half-open) that count for the new voxels `begin .. end`."""
        return self._stored(begin).start, self._stored(end - 1).stop

    def taps(self, begin: int, end: int) -> Taps:
        """What counts for the new voxels `begin .. end`, from `stored_range` of them."""
        if self.ratio == 1:
            index = np.arange(end - begin)[:, None]
            return Taps(index, np.ones(index.shape))
        # The same in any box, so that no sum has another number of terms.
        count = ceil(2 * max(Fraction(1), self.ratio))
        first = self._stored(begin).start
        indices, weights = [], []
        for voxel in range(begin, end):
            stored, own = self._stored(voxel), self._weights(voxel)
            missing = count - len(stored)
            indices.append([i - first for i in stored] + [stored[-1] - first] * missing)
            weights.append(own + [0.0] * missing)
        return Taps(np.array(indices, np.int64), np.array(weights))

    def _weights(self, voxel: int) -> list[float]:
        """The weights of the stored voxels that count for a new one."""
        p, q = self.ratio.as_integer_ratio()
        stored, whole = self._stored(voxel), self._triangle(voxel)
        # In units of 1 / (2 q). Python's integers are exact, also for ratios of many digits.
        distances = [(2 * i + 1) * q - (2 * voxel + 1) * p for i in stored]
        weights = [2 * max(p, q) - abs(d) for d in distances]
        if stored == whole:
            pairs = list(zip(weights, distances, strict=True))
            moment, spread = sum(w * d for w, d in pairs), sum(w * d * d for w, d in pairs)
            weights = [w * (spread - d * moment) for w, d in pairs] if moment else weights
        total = sum(weights)
        return [weight / total for weight in weights]

    def _stored(self, voxel: int) -> range:
        """The stored voxels that count for a new one."""
        whole = self._triangle(voxel)
        return range(max(0, whole.start), min(self.size, whole.stop))

    def _triangle(self, voxel: int) -> range:
        """The voxels under the triangle of a new one, also beyond the volume."""
        p, q = self.ratio.as_integer_ratio()
        # (2 i + 1) q is less than 2 max(p, q) from the centre, (2 j + 1) p.
        centre, width = (2 * voxel + 1) * p - q, 2 * max(p, q)
        return range((centre - width) // (2 * q) + 1, -((-centre - width) // (2 * q)))


def resample(
    data: NDArray[np.generic], axes: Sequence[Taps], dtype: np.dtype[np.generic]
) -> NDArray[np.generic]:
    """Stored voxels `[C, *stored]` resampled along each axis, `[C, *resampled]` of a float dtype.

    Works plane by plane, so that little beside input and output is in memory.
    """
    result = np.empty((len(data), *(len(taps.index) for taps in axes)), dtype)
    with np.errstate(invalid="ignore", over="ignore"):
        _fill(result, data, axes)
    return result


def _fill(result: NDArray[np.generic], data: NDArray[np.generic], axes: Sequence[Taps]) -> None:
    if len(axes) <= 2:
        for axis, taps in enumerate(axes, start=1):
            data = _along(data, axis, taps)
        result[...] = data
        return
    first, *others = axes
    for place, (index, weight) in enumerate(zip(first.index, first.weight, strict=True)):
        plane = _along(data, 1, Taps(index[None], weight[None]))
        _fill(result[:, place], plane[:, 0], others)


def _along(data: NDArray[np.generic], axis: int, taps: Taps) -> NDArray[np.generic]:
    """Resample along one axis, in float64."""
    if taps.is_identity:
        return _picked(data, axis, taps.index[:, 0])
    shape = (-1, *[1] * (data.ndim - axis - 1))
    total = np.zeros((), np.float64)
    for number, (index, weight) in enumerate(zip(taps.index.T, taps.weight.T, strict=True)):
        term = _picked(data, axis, index) * weight.reshape(shape)
        total = np.add(total, term, out=total) if number else term
    return total


def _picked(data: NDArray[np.generic], axis: int, index: NDArray[np.int64]) -> NDArray[np.generic]:
    """Some places along an axis; a view where they are evenly spaced, which saves a copy."""
    steps = np.unique(np.diff(index))
    if len(steps) > 1 or (steps < 1).any():
        return data.take(index, axis=axis)
    places = slice(int(index[0]), int(index[-1]) + 1, int(steps[0]) if len(steps) else 1)
    return data[(slice(None),) * axis + (places,)]
