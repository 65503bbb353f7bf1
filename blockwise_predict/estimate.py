"""What a plan will cost: passes, arithmetic, memory, bytes."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, prod

import numpy as np
from funlib.geometry import Coordinate, Roi

from blockwise_predict.architectures import UNetShapes
from blockwise_predict.plan import Plan

# Blocks looked at when there are more; they are alike but for the ROI's rim.
SAMPLED_BLOCKS = 4096


@dataclass(frozen=True)
class Estimate:
    """Costs of a run. `halo_overhead` is arithmetic relative to passes without any halo,
    `read_amplification` bytes decoded relative to the bytes that the ROI and its context hold, with
    what a single worker keeps of the block before (several workers take turns at the blocks);
    `exact` says whether all blocks were counted, or a sample.
    """

    passes: int
    flops: float
    halo_overhead: float
    bytes_in: int
    bytes_out: int
    read_amplification: float
    exact: bool


def estimate(plan: Plan, shapes: UNetShapes) -> Estimate:
    """Add up the costs of a plan's blocks; from an even sample where there are very many."""
    step = ceil(plan.num_blocks / SAMPLED_BLOCKS)
    passes, flops, decoded, blocks = 0, 0.0, 0, 0
    flops_of: dict[tuple[int, ...], int] = {}
    for number, block in enumerate(plan.blocks()):
        if number % step:
            continue
        blocks += 1
        for tile in plan.lattice.cover(block):
            shape = tuple(tile.read.shape)
            if shape not in flops_of:
                flops_of[shape] = pass_flops(shapes, shape)
            passes += 1
            flops += flops_of[shape]
        decoded += _decoded_voxels(plan, block)
    scale_up = plan.num_blocks / blocks
    itemsize = np.dtype(plan.input.dtype).itemsize * (plan.input.channels or 1)
    needed = _inside(plan, plan.lattice.read_roi(plan.output.roi))
    values_out = plan.output.roi.size * len(plan.network.channel_names)
    return Estimate(
        passes=round(passes * scale_up),
        flops=flops * scale_up,
        halo_overhead=flops * scale_up / (plan.output.roi.size * shapes.flops_without_halo),
        bytes_in=round(decoded * scale_up) * itemsize,
        bytes_out=values_out * np.dtype(plan.output.dtype).itemsize,
        read_amplification=decoded * scale_up / needed,
        exact=step == 1,
    )


def pass_flops(shapes: UNetShapes, tile: tuple[int, ...]) -> int:
    """Arithmetic of a pass over a tile of the input; of a 2-D net's, over the slices of one."""
    slices = len(tile) - shapes.dims
    return prod(tile[:slices]) * shapes.flops(tile[slices:])


def _inside(plan: Plan, roi: Roi) -> int:
    """Voxels of an input ROI that the input array holds."""
    volume = Roi((0,) * len(plan.input.shape), plan.input.shape)
    return int(volume.intersect(roi).size)


def _decoded_voxels(plan: Plan, block: Roi) -> int:
    """Input voxels of the chunks that are decoded for a block."""
    touched = _chunks(plan, block)
    decoded = prod(map(len, touched))
    before = block.begin[-1] - plan.block_shape[-1]
    if plan.config.workers == 1 and before >= plan.output.roi.begin[-1]:
        # What the block before has left in the cache, along the axis that blocks follow.
        last = _chunks(plan, plan.block(Coordinate((*block.begin[:-1], before))))[-1]
        shared = len(range(touched[-1].start, min(touched[-1].stop, last.stop)))
        decoded -= shared * prod(map(len, touched[:-1]))
    return decoded * prod(plan.input.chunk_shape)


def _chunks(plan: Plan, block: Roi) -> list[range]:
    """The input's chunks that a block touches, by axis."""
    roi = plan.lattice.read_roi(block)
    axes = zip(roi.begin, roi.end, plan.input.shape, plan.input.chunk_shape, strict=True)
    ranges = []
    for begin, end, size, chunk in axes:
        first = min(max(0, begin), size - 1) // chunk
        ranges.append(range(first, max(first + 1, ceil(min(end, size) / chunk))))
    return ranges
