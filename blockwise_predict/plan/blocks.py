"""Shapes of blocks."""

from __future__ import annotations

from math import ceil

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
