"""Shapes of blocks, and of the tiles that cover them."""

from __future__ import annotations

from math import ceil

from funlib.geometry import Roi

from blockwise_predict.geometry.lattice import AxisLattice, Lattice

Shape = tuple[int, ...]


def crop_block(block: Shape, roi: Shape) -> Shape:
    """The shape of a block, cropped to a ROI that may be smaller."""
    return tuple(min(b, n) for b, n in zip(block, roi, strict=True))


def even_blocks(block: Shape, whole: Shape, chunk: Shape) -> Shape:
    """The block shape for as many blocks per axis, of sizes as equal as the chunks allow."""
    even = []
    for b, w, c in zip(block, whole, chunk, strict=True):
        count = ceil(w / b)
        even.append(ceil(w / c / count) * c)
    return tuple(even)


def needed_tile(lattice: Lattice, roi: Roi, block: Shape, reach: Shape = ()) -> Shape:
    """The tile that covers any of a ROI's blocks; `lattice` may be for any tile.

    A tile exceeds its block by `reach` output voxels along each axis, by default by none.
    """
    tile = []
    axes = zip(lattice.axes, roi.begin, roi.shape, block, reach or (0,) * roi.dims, strict=True)
    for axis, begin, size, edge, more in axes:
        begins = range(begin, begin + size, edge)
        assert isinstance(axis, AxisLattice)
        needed = max(min(b + edge, begin + size) - axis.point_before(b) for b in begins[:1000])
        tile.append(axis.grown_for(needed + more))
    return tuple(tile)
