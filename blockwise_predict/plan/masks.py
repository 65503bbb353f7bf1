"""Which blocks a mask touches: the mask is read once, in windows of bounded size.

Along each axis, a block touches consecutive voxels of the mask. So a window is reduced axis by
axis, from voxels to blocks, whether voxels are smaller than blocks or larger.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from fractions import Fraction
from math import ceil, floor, prod

import numpy as np
from numpy.typing import NDArray

from blockwise_predict.config.steps import step
from blockwise_predict.errors import ArrayError
from blockwise_predict.geometry.grid import VoxelGrid
from blockwise_predict.io import BlockSource, reason_of

# Maximum decoded size of a window (bytes); larger only if a single chunk of the mask is.
WINDOW_BYTES = 64 << 20

Ranges = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Along an axis, for each position of blocks, the half-open range of mask voxels touched there."""


def touched_voxels(
    edges: Sequence[tuple[Fraction, Fraction]], grid: VoxelGrid, axis: int, size: int
) -> Ranges:
    """The voxels of a mask's axis that intervals in nm touch.

    `edges` are sorted; of intervals beyond the mask's `size` voxels the range is empty.
    """
    begin, voxel = grid.offset[axis], grid.voxel_size[axis]
    low = np.array([min(max(0, floor((b - begin) / voxel)), size) for b, _ in edges], np.int64)
    high = np.array([min(max(0, ceil((e - begin) / voxel)), size) for _, e in edges], np.int64)
    return low, high


def foreground_blocks(mask: BlockSource, ranges: Sequence[Ranges]) -> NDArray[np.bool_]:
    """Which blocks of a grid touch a voxel of the mask that is not 0 in all channels.

    `ranges` are those of each axis. Raises ArrayError if the mask cannot be read.
    """
    found = np.zeros([len(low) for low, _ in ranges], bool)
    windows = list(_windows(mask, ranges))
    with step("reading the mask", len(windows)) as to:
        for number, window in enumerate(windows):
            to(number)
            _find_within(mask, window, ranges, found)
    return found


def _find_within(
    mask: BlockSource,
    window: tuple[slice, ...],
    ranges: Sequence[Ranges],
    found: NDArray[np.bool_],
) -> None:
    """Set the blocks that a window of the mask has foreground of in `found`."""
    places = tuple(
        slice(np.searchsorted(high, part.start, "right"), np.searchsorted(low, part.stop))
        for (low, high), part in zip(ranges, window, strict=True)
    )
    blocks = found[places]
    # Further windows of blocks that are found already need not be read.
    if blocks.all():
        return
    touched = _read(mask, window)
    for axis, ((low, high), part, place) in enumerate(zip(ranges, window, places, strict=True)):
        begins = low[place].clip(part.start) - part.start
        ends = high[place].clip(None, part.stop) - part.start
        touched = _any_within(touched, axis, begins, ends)
    blocks |= touched


def _windows(mask: BlockSource, ranges: Sequence[Ranges]) -> Iterator[tuple[slice, ...]]:
    """Boxes of whole chunks that cover the voxels in `ranges`."""
    voxel_bytes = mask.dtype.itemsize * (mask.channels or 1)
    shape = list(mask.chunk_shape)
    spans = [(int(low.min()), int(high.max())) for low, high in ranges]
    for axis in reversed(range(len(shape))):
        others = prod(shape) // shape[axis] * voxel_bytes
        chunks = max(1, WINDOW_BYTES // (others * mask.chunk_shape[axis]))
        needed = -(-spans[axis][1] // mask.chunk_shape[axis])
        shape[axis] = mask.chunk_shape[axis] * max(1, min(chunks, needed))
    steps = [
        [
            slice(max(at, begin), min(at + size, end))
            for at in range(begin - begin % size, end, size)
        ]
        for (begin, end), size in zip(spans, shape, strict=True)
    ]
    return itertools.product(*steps)


def _read(mask: BlockSource, window: Sequence[slice]) -> NDArray[np.bool_]:
    try:
        data = mask.read([part.start for part in window], [part.stop for part in window])
    except ValueError as error:
        raise ArrayError(f"--mask {mask.path} cannot be read: {reason_of(error)}") from None
    touched: NDArray[np.bool_] = (data != 0).any(0)
    return touched


def _any_within(
    voxels: NDArray[np.bool_], axis: int, begins: NDArray[np.int64], ends: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Along an axis, for each of the ranges, whether any voxel in it is set."""
    along = np.moveaxis(voxels, axis, 0)
    # A loop over the few ranges: numpy's reduceat takes 5 to 40 times as long.
    rows = np.zeros((len(begins), *along.shape[1:]), bool)
    for row, begin, end in zip(rows, begins, ends, strict=True):
        np.any(along[begin:end], axis=0, out=row)
    return np.moveaxis(rows, 0, axis)
