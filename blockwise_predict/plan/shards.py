"""The shards of an output: the chunks of a block that are stored in one file, or object.

Blocks consist of whole shards, so no two workers write the same one. A block leaves the engine in
rows of chunks, and a shard is written at once: a shard that is thicker than a row waits in memory
until all its rows are there. So by default shards are as thick as a row of chunks, and extend over
as much of it as `SHARD_BYTES` allow.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import ceil, prod

from blockwise_predict.config.model import RunConfig
from blockwise_predict.engine.settings import Streaming
from blockwise_predict.plan.opened import Opened
from blockwise_predict.plan.outputs import output_format
from blockwise_predict.plan.region import Region

Shape = tuple[int, ...]

# Maximum size of a shard, unless one is given (bytes before compression).
SHARD_BYTES = 512_000_000
# Maximum number of chunks that are stored one by one, unless shards are asked for: so few files are
# no burden, and every reader of zarr 3 knows them.
FEW_CHUNKS = 64


def shards_are_open(config: RunConfig, region: Region) -> bool:
    """Whether shards are to be chosen: neither given nor refused, and of use."""
    if config.shard_shape is not None or output_format(config) != "zarr3":
        return False
    return config.shard_size is not None or prod(_counts(region)) > FEW_CHUNKS


def _counts(region: Region) -> list[int]:
    """Numbers of chunks of the output along its axes."""
    return [ceil(n / c) for n, c in zip(region.roi.shape, region.chunk_shape, strict=True)]


def row_axes(opened: Opened, streaming: Streaming | None) -> tuple[int, ...]:
    """The axes of the volume along which the engine completes rows one after another."""
    shapes, dims = opened.model.shapes, len(opened.array.shape)
    slices = dims - shapes.dims
    if opened.config.is_mean:
        return (0,)
    if slices and shapes.dims == 2:
        # All rows of a chunk's slices are completed by the last slice.
        return tuple(range(slices))
    return (*range(slices), slices + (streaming.axes[0] if streaming is not None else 0))


def shard_shapes(opened: Opened, region: Region, block: Shape, rows: Sequence[int]) -> list[Shape]:
    """Shapes of shards that divide a block, the thickest first; the last is one row thick.

    `rows` are the axes along which rows follow each other. Shards are thicker than one only if
    their size was asked for.
    """
    config, chunk = opened.config, region.chunk_shape
    numbers = [
        [n for n in range(1, min(b // c, count) + 1) if b // c % n == 0]
        for b, c, count in zip(block, chunk, _counts(region), strict=True)
    ]
    voxel_bytes = max(opened.array_bytes)
    room = (config.shard_size or SHARD_BYTES) // (prod(chunk) * voxel_bytes)
    across = [[1] if axis in rows else found for axis, found in enumerate(numbers)]
    # Of equally large ones the most even.
    thin = max(
        (shape for shape in product(*across) if prod(shape) <= room),
        key=lambda shape: (prod(shape), -max(shape)),
        default=(1,) * len(block),
    )
    thickness = numbers[rows[-1]] if config.shard_size is not None else [1]
    return [
        tuple(
            n * c * (thick if axis == rows[-1] else 1)
            for axis, (n, c) in enumerate(zip(thin, chunk, strict=True))
        )
        for thick in reversed(thickness)
        if thick == 1 or thick * prod(thin) <= room
    ]
