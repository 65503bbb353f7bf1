"""Input beyond the volume's border, filled by a declared rule."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from funlib.geometry import Roi
from numpy.typing import NDArray


class Readable(Protocol):
    """An array whose voxels can be read as `[C, *spatial]`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial shape in voxels."""

    def read(self, begin: tuple[int, ...], end: tuple[int, ...]) -> NDArray[np.generic]:
        """Voxels `begin .. end` (half-open, inside the array), `[C, *spatial]`."""


def read_padded(array: Readable, roi: Roi, border: str) -> NDArray[np.generic]:
    """Read a ROI (voxels) that may reach beyond the array; `[C, *roi.shape]`.

    `border` is the fill beyond it: `reflect` mirrors at the centres of the outermost voxels (as
    numpy's mode of that name), `edge` repeats them, `constant` is 0. With `valid` the fill cannot
    affect any output voxel that is kept; it is that of `edge`.
    """
    sources = [
        source_voxels(begin, end, size, border)
        for begin, end, size in zip(roi.begin, roi.end, array.shape, strict=True)
    ]
    low = tuple(int(source.min()) for source in sources)
    high = tuple(int(source.max()) + 1 for source in sources)
    data = array.read(low, high)
    for axis, source in enumerate(sources, start=1):
        wanted = source - low[axis - 1]
        if len(wanted) != data.shape[axis] or (np.diff(wanted) != 1).any():
            data = data.take(wanted, axis=axis)
    if border == "constant":
        data = _zero_outside(data, roi, array.shape)
    return data


def source_voxels(begin: int, end: int, size: int, border: str) -> NDArray[np.int64]:
    """For each voxel `begin .. end` of an axis, the voxel in `0 .. size` that fills it."""
    voxels = np.arange(begin, end)
    if border != "reflect" or size == 1:
        return voxels.clip(0, size - 1)
    cycle = 2 * (size - 1)
    folded = voxels % cycle
    return np.minimum(folded, cycle - folded)


def _zero_outside(
    data: NDArray[np.generic], roi: Roi, shape: tuple[int, ...]
) -> NDArray[np.generic]:
    if Roi((0,) * len(shape), shape).contains(roi):
        return data
    data = data.copy()
    for axis, (begin, end, size) in enumerate(zip(roi.begin, roi.end, shape, strict=True), start=1):
        voxels = np.arange(begin, end)
        outside = (voxels < 0) | (voxels >= size)
        data[(slice(None),) * axis + (outside,)] = 0
    return data
