"""What blocks cost along one axis: the passes over them, and the input chunks that these read."""

from __future__ import annotations

from collections.abc import Iterator

from blockwise_predict.plan.model import Plan


def pass_sizes(plan: Plan, axis: int, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Input sizes of the passes over a range of output voxels, with the number of each."""
    lattice = plan.lattice.axes[axis]
    number = lattice.num_passes(begin, end)
    yield lattice.input_size, number - 1
    yield lattice.nth_pass(begin, end, number - 1).input_size, 1


def read_chunks(plan: Plan, axis: int, begin: int, end: int) -> range:
    """Indices of the input chunks that the passes over a range of output voxels read."""
    first_voxel, end_voxel = plan.lattice.axes[axis].input_range(begin, end)
    size, chunk = plan.input.shape[axis], plan.input.chunk_shape[axis]
    first = min(max(0, first_voxel), size - 1) // chunk
    return range(first, max(first + 1, -(-min(end_voxel, size) // chunk)))
