"""What a plan will cost: passes, arithmetic, memory, bytes.

Blocks form a grid, and what a block costs along one axis does not depend on where it lies along the
others. So costs are counted axis by axis and multiplied. Along an axis, blocks inside the volume
repeat: they lie on the lattice and on the input's chunks as the block one period before. So no more
than a period and the outermost blocks are looked at, however large the volume is.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from math import gcd, lcm, prod

import numpy as np
from funlib.geometry import Roi

from blockwise_predict.architectures import UNetShapes
from blockwise_predict.architectures.trace import flops, flops_without_halo
from blockwise_predict.plan.model import Plan

# Of a longer period, only its first blocks are looked at.
LONGEST_PERIOD = 4096


@dataclass(frozen=True)
class Estimate:
    """Costs of a run. `halo_overhead` is arithmetic relative to passes without any halo,
    `read_amplification` bytes decoded relative to the bytes that the ROI and its context hold, with
    what a single worker keeps of the block before (several workers take turns at the blocks);
    `exact` says whether that is of all blocks, or from a sample of them.
    """

    passes: int
    flops: float
    halo_overhead: float
    bytes_in: int
    bytes_out: int
    read_amplification: float
    exact: bool


@dataclass(frozen=True)
class _AxisCosts:
    """Costs along one axis, added up over the places that blocks have along it.

    `passes` by input size; `chunks` of the input that are decoded, and of these `kept_chunks` that
    the place before has left in memory.
    """

    passes: dict[int, int]
    chunks: int
    kept_chunks: int
    exact: bool


def estimate(plan: Plan, shapes: UNetShapes) -> Estimate:
    """Add up the costs of a plan's blocks."""
    axes = [_axis_costs(plan, axis) for axis in range(len(plan.block_shape))]
    passes = prod(sum(costs.passes.values()) for costs in axes)
    total = sum(
        pass_flops(shapes, tuple(size for size, _ in sizes)) * prod(count for _, count in sizes)
        for sizes in itertools.product(*(costs.passes.items() for costs in axes))
    )
    decoded = _decoded_chunks(plan, axes) * prod(plan.input.chunk_shape)
    itemsize = np.dtype(plan.input.dtype).itemsize * (plan.input.channels or 1)
    needed = _inside(plan, plan.lattice.read_roi(plan.output.roi))
    values_out = plan.output.roi.size * len(plan.network.channel_names)
    return Estimate(
        passes=passes,
        flops=total,
        halo_overhead=total / (plan.output.roi.size * flops_without_halo(shapes)),
        bytes_in=decoded * itemsize,
        bytes_out=values_out * np.dtype(plan.output.dtype).itemsize,
        read_amplification=decoded / needed,
        exact=all(costs.exact for costs in axes),
    )


def pass_flops(shapes: UNetShapes, tile: tuple[int, ...]) -> int:
    """Arithmetic of a pass over a tile of the input; of a 2-D net's, over the slices of one."""
    slices = len(tile) - shapes.dims
    return prod(tile[:slices]) * flops(shapes, tile[slices:])


def _inside(plan: Plan, roi: Roi) -> int:
    """Voxels of an input ROI that the input array holds."""
    volume = Roi((0,) * len(plan.input.shape), plan.input.shape)
    return int(volume.intersect(roi).size)


def _decoded_chunks(plan: Plan, axes: list[_AxisCosts]) -> int:
    """Chunks that are decoded for all blocks."""
    *across, last = axes
    decoded = last.chunks
    if plan.config.workers == 1:
        # What the block before has left in the cache, along the axis that blocks follow.
        decoded -= last.kept_chunks
    return decoded * prod(costs.chunks for costs in across)


def _axis_costs(plan: Plan, axis: int) -> _AxisCosts:
    passes: defaultdict[int, int] = defaultdict(int)
    chunks = kept = 0
    period = _period(plan, axis)
    for place, times in _places(plan, axis, min(period, LONGEST_PERIOD)):
        begin, end = plan.block_range(axis, place)
        for size, number in _pass_sizes(plan, axis, begin, end):
            passes[size] += number * times
        touched = _chunks(plan, axis, begin, end)
        chunks += len(touched) * times
        if place:
            before = _chunks(plan, axis, *plan.block_range(axis, place - 1))
            kept += len(range(touched.start, min(touched.stop, before.stop))) * times
    return _AxisCosts(passes, chunks, kept, exact=period <= LONGEST_PERIOD)


def _period(plan: Plan, axis: int) -> int:
    """Blocks along an axis after which they lie as before on the lattice and the input's chunks."""
    block = plan.block_shape[axis]
    cells = (plan.lattice.axes[axis].step, plan.scale[axis] * plan.input.chunk_shape[axis])
    return lcm(*(cell // gcd(cell, block) for cell in cells))


def _places(plan: Plan, axis: int, period: int) -> Iterator[tuple[int, int]]:
    """Places along an axis to look at, each with the number of places that it stands for."""
    count = plan.blocks_per_axis[axis]
    # From places further inside, no pass reaches beyond the volume, and none is cut.
    reach = plan.lattice.axes[axis].input_size * plan.scale[axis]
    outermost = 1 + -(-reach // plan.block_shape[axis])
    if count <= 2 * outermost + period:
        yield from ((place, 1) for place in range(count))
        return
    inner = range(outermost, count - outermost)
    yield from ((place, 1) for place in range(outermost))
    yield from ((place, len(inner[shift::period])) for shift, place in enumerate(inner[:period]))
    yield from ((place, 1) for place in range(inner.stop, count))


def _pass_sizes(plan: Plan, axis: int, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Input sizes of the passes over a range of output voxels, and how many there are of each."""
    lattice = plan.lattice.axes[axis]
    number = lattice.num_passes(begin, end)
    yield lattice.input_size, number - 1
    yield lattice.nth_pass(begin, end, number - 1).input_size, 1


def _chunks(plan: Plan, axis: int, begin: int, end: int) -> range:
    """The input's chunks that the passes over a range of output voxels touch."""
    first_voxel, end_voxel = plan.lattice.axes[axis].input_range(begin, end)
    size, chunk = plan.input.shape[axis], plan.input.chunk_shape[axis]
    first = min(max(0, first_voxel), size - 1) // chunk
    return range(first, max(first + 1, -(-min(end_voxel, size) // chunk)))
