"""The costs of a plan: passes, arithmetic, bytes read and written.

Blocks form a grid, and the cost of a block along one axis does not depend on its position along the
others. So costs are counted axis by axis, and multiplied. Along an axis, blocks inside the volume
are periodic: each lies on the lattice and on the input's chunks in the same way as the block one
period before. So only one period and the outermost blocks are counted, however large the volume.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from math import gcd, lcm, prod

from funlib.geometry import Roi

from blockwise_predict.checkpoint import TrainedModel
from blockwise_predict.plan.axis_costs import pass_sizes, read_chunks
from blockwise_predict.plan.decoding import decoded_in_columns
from blockwise_predict.plan.model import Plan
from blockwise_predict.plan.reading import chunks_at, reading_of

# Maximum number of blocks of a period that are counted; of a longer one, only the first are.
MAX_PERIOD = 4096


@dataclass(frozen=True)
class Estimate:
    """Costs of a run.

    passes: number of forward passes.
    flops: floating-point operations.
    halo_overhead: arithmetic relative to passes without any halo.
    bytes_in: decoded bytes of input chunks, if the workers are equally fast.
    bytes_out: bytes of output values, before compression.
    read_amplification: decoded bytes relative to the bytes of the ROI and its context.
    exact: whether all blocks were counted, or a sample of them.
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
    """Costs along one axis, added up over the positions of blocks along it.

    `passes` are numbers of passes by input size, `chunks` the number of decoded input chunks, of
    which `kept_chunks` are still in memory from the previous position.
    """

    passes: dict[int, int]
    chunks: int
    kept_chunks: int
    exact: bool


def estimate(plan: Plan, model: TrainedModel) -> Estimate:
    """The costs of all blocks of a plan."""
    axes = [_axis_costs(plan, axis) for axis in range(len(plan.block_shape))]
    passes = prod(sum(costs.passes.values()) for costs in axes)
    total = sum(
        pass_flops(model, tuple(size for size, _ in sizes)) * prod(count for _, count in sizes)
        for sizes in itertools.product(*(costs.passes.items() for costs in axes))
    )
    decoded = _decoded_chunks(plan, axes)
    needed = _voxels_inside(plan, plan.lattice.read_roi(plan.output.roi))
    return Estimate(
        passes=passes * plan.copies,
        flops=total * plan.copies,
        halo_overhead=total / (plan.output.roi.size * model.flops_without_halo),
        bytes_in=decoded * plan.input.chunk_bytes,
        bytes_out=plan.output.roi.size * plan.output.voxel_bytes,
        read_amplification=decoded * prod(plan.input.chunk_shape) / needed,
        exact=all(costs.exact for costs in axes),
    )


def pass_flops(model: TrainedModel, tile: tuple[int, ...]) -> int:
    """Floating-point operations of a pass over an input tile; of a 2-D network, of all slices."""
    slices = len(tile) - model.shapes.dims
    return prod(tile[:slices]) * model.flops(tile[slices:])


def _voxels_inside(plan: Plan, roi: Roi) -> int:
    """Number of voxels of an input ROI that lie inside the input array."""
    volume = Roi((0,) * len(plan.input.shape), plan.input.shape)
    return int(volume.intersect(roi).size)


def _decoded_chunks(plan: Plan, axes: list[_AxisCosts]) -> int:
    """Number of chunks that are decoded for all blocks."""
    if not plan.tiling.cache_bytes:
        return prod(costs.chunks for costs in axes)
    reading = reading_of(plan)
    if reading.kept_bytes:
        return decoded_in_columns(reading, [costs.chunks - costs.kept_chunks for costs in axes])
    # Consecutive blocks are neighbours along the last axis, and share chunks in the cache.
    *across, last = axes
    return (last.chunks - last.kept_chunks) * prod(costs.chunks for costs in across)


def _axis_costs(plan: Plan, axis: int) -> _AxisCosts:
    passes: defaultdict[int, int] = defaultdict(int)
    chunks = kept = 0
    period = _period(plan, axis)
    for place, times in _places(plan, axis, min(period, MAX_PERIOD)):
        begin, end = plan.block_range(axis, place)
        for size, number in pass_sizes(plan, axis, begin, end):
            passes[size] += number * times
        touched = read_chunks(plan, axis, begin, end)
        chunks += len(touched) * times
        if place:
            before = chunks_at(plan, axis, place - 1)
            kept += len(range(touched.start, min(touched.stop, before.stop))) * times
    return _AxisCosts(passes, chunks, kept, exact=period <= MAX_PERIOD)


def _period(plan: Plan, axis: int) -> int:
    """Number of blocks after which their position on lattice and input chunks repeats."""
    block = plan.block_shape[axis]
    cells = (plan.lattice.axes[axis].step, plan.scale[axis] * plan.input.chunk_shape[axis])
    return lcm(*(cell // gcd(cell, block) for cell in cells))


def _places(plan: Plan, axis: int, period: int) -> Iterator[tuple[int, int]]:
    """Positions of blocks to count along an axis, each with the number of those it stands for."""
    count = plan.blocks_per_axis[axis]
    # Passes of blocks further inside do not reach the border of the volume.
    reach = plan.lattice.axes[axis].input_size * plan.scale[axis]
    outermost = 1 + -(-reach // plan.block_shape[axis])
    if count <= 2 * outermost + period:
        yield from ((place, 1) for place in range(count))
        return
    inner = range(outermost, count - outermost)
    yield from ((place, 1) for place in range(outermost))
    yield from ((place, len(inner[shift::period])) for shift, place in enumerate(inner[:period]))
    yield from ((place, 1) for place in range(inner.stop, count))
