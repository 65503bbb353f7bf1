"""The lattice and the blocks of predictions whose tiles overlap and are blended."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, prod

from blockwise_predict.geometry.blending import build_overlapping
from blockwise_predict.geometry.lattice import Lattice
from blockwise_predict.geometry.tiling import check_tile
from blockwise_predict.plan.opened import Opened
from blockwise_predict.plan.sizing import BLOCKS_PER_WORKER

# Minimum share of the passes that a larger block must save.
MIN_GAIN = 0.02

Shape = tuple[int, ...]


def blended_lattice(opened: Opened) -> Lattice:
    """The lattice of overlapping tiles. Raises GeometryError if the tile does not fit."""
    config, shapes, volume = opened.config, opened.model.shapes, opened.array.shape
    tile = config.tile_shape or opened.over_volume(opened.model.usual_input_shape)
    # Values near a tile's edge are blended, not dropped: the network's own smallest shape will do.
    check_tile(tile, shapes, len(volume), smallest=(1,) * shapes.dims)
    return build_overlapping(
        shapes, tile, config.overlap, volume if config.border == "valid" else None
    )


def blended_block(opened: Opened, lattice: Lattice, roi: Shape, chunk: Shape, memory: int) -> Shape:
    """The block shape, a multiple of `chunk`, for a ROI of this shape (output voxels).

    All tiles that touch a block are predicted for it, so larger blocks need fewer passes. The block
    grows along the axis that saves most while it fits into `memory` (bytes).
    """
    block = tuple(min(c, ceil(n / c) * c) for n, c in zip(roi, chunk, strict=True))
    while True:
        allowed = [
            larger
            for larger in _larger(block, roi, chunk)
            if _num_blocks(larger, roi) >= BLOCKS_PER_WORKER * opened.config.planned_workers
            and block_bytes(opened, lattice, larger) <= memory
        ]
        best = min(allowed, key=lambda larger: _passes(lattice, larger), default=block)
        if _passes(lattice, best) > (1 - MIN_GAIN) * _passes(lattice, block):
            return block
        block = best


def _larger(block: Shape, roi: Shape, chunk: Shape) -> Iterator[Shape]:
    """The block, grown by a chunk along each of the axes that leave room for it."""
    for axis, (edge, size) in enumerate(zip(block, roi, strict=True)):
        if edge < size:
            yield (*block[:axis], edge + chunk[axis], *block[axis + 1 :])


def _num_blocks(block: Shape, roi: Shape) -> int:
    return prod(ceil(n / b) for n, b in zip(roi, block, strict=True))


def _passes(lattice: Lattice, block: Shape) -> float:
    """Passes per voxel of a block, on average over its place on the lattice."""
    touched = (
        (size + axis.output_size(axis.input_size) - 1) / axis.stride
        for size, axis in zip(block, lattice.axes, strict=True)
    )
    return prod(touched) / prod(block)


def block_bytes(opened: Opened, lattice: Lattice, block: Shape) -> int:
    """Bytes of a block besides its passes: sums, weights, input in the slots, and its output."""
    channels = len(opened.model.channel_names)
    inputs = prod(
        (size + axis.low + axis.high) // axis.scale + 2 * axis.input_size
        for size, axis in zip(block, lattice.axes, strict=True)
    )
    values = prod(block) * (4 * (channels + 1) + opened.output_bytes)
    return values + inputs * opened.raw_bytes * opened.config.slots
