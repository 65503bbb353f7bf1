"""Choosing block and tile shapes, and the streaming: least arithmetic within the memory.

The larger a block, the smaller its share of halo. The block grows chunk by chunk along the axis
that saves most, until the saving is small, the memory is used up, or there would be too few blocks
for the workers. The tile is what a block needs, streamed along the axis that needs the least
memory. If that still does not fit, the tile shrinks in the plane across the stream.

The passes of a network with time have a given number of frames, and blocks those of their output.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil, prod

import torch
from funlib.geometry import Roi

from blockwise_predict.architectures.trace import flops
from blockwise_predict.checkpoint import TrainedModel
from blockwise_predict.engine.builder import StreamSpec
from blockwise_predict.engine.footprint import Footprint, measure_footprint
from blockwise_predict.engine.passes import CHUNK_VOXELS
from blockwise_predict.engine.settings import Streaming
from blockwise_predict.geometry.lattice import Lattice
from blockwise_predict.geometry.tiling import smallest_tile
from blockwise_predict.plan.blocks import crop_block, even_blocks, needed_tile

Shape = tuple[int, ...]

# Minimum number of blocks per worker, if there are enough chunks: so workers end at about the same
# time, progress is visible, and an interruption costs little.
BLOCKS_PER_WORKER = 4
# Minimum share of the arithmetic that a larger block must save.
MIN_GAIN = 0.004
# Voxels of an input slab: enough to occupy the device, and few enough for a CPU's caches.
SLAB_VOXELS = {"cpu": 600_000, "cuda": 8_000_000}
# Resident memory relative to the bytes of tensors, and in addition: overhead of the allocators, and
# oneDNN's buffers. Measured 1.0 to 1.2 (torch 2.13, glibc, planes of 340 to 570 squared), and more
# for small tensors.
ALLOCATION_FACTOR = 1.2
ALLOCATION_BYTES = 96 * 2**20
# Minimum share of the memory for passes, even if a configured block takes all of it.
MIN_PASS_SHARE = 0.25
# Number of rows of output in memory: one being filled, and one being written.
ROWS_IN_MEMORY = 2
# Of a value while passes are summed.
SUM_BYTES = 4
# Size of the cache of decoded chunks for which passes leave memory, in inputs of a block (chunks
# hold more than a block reads of them), and its maximum share of the memory.
CACHED_BLOCKS, MAX_CACHE_SHARE = 12, 0.2


@dataclass(frozen=True)
class Limits:
    """Limits of a worker: `memory` for data in bytes, and `slots` blocks in memory at a time.

    `workers` is the number of workers of the run, `device` a type of torch device.
    """

    memory: int
    workers: int
    slots: int
    device: str

    def cache_bytes(self, raw: int) -> int:
        """Bytes of decoded chunks to keep at least, if a block reads `raw` bytes."""
        return min(CACHED_BLOCKS * raw, round(self.memory * MAX_CACHE_SHARE))


class Sizing:
    """Chooses sizes for one network that is streamed, one input and one run's output.

    `raw_bytes` and `output_bytes` are the sizes of an input and of an output voxel, channels
    included; the network computes in `dtype`. `frames` is the length of passes of a network with
    time, by default that of training. If several passes are averaged (`is_mean`), their sums take
    memory, and a tile exceeds a block by `reach` output voxels along each axis.
    """

    def __init__(
        self,
        model: TrainedModel,
        *,
        raw_bytes: int,
        output_bytes: int,
        dtype: torch.dtype,
        limits: Limits,
        frames: int | None = None,
        is_mean: bool = False,
        reach: Shape = (),
    ) -> None:
        self._dtype = dtype
        self._model = model
        assert model.streamed_shapes is not None
        self._shapes = model.streamed_shapes
        # Axes along which blocks grow and tiles are streamed: all but slices and time.
        self._space = self._shapes.dims - self._shapes.has_time
        self._frames: Shape = ()
        if self._shapes.has_time:
            self._frames = (frames or model.usual_input_shape[0],)
        self._limits = limits
        self._raw_bytes = raw_bytes
        self._voxel_bytes = output_bytes
        self._sum_bytes = SUM_BYTES * len(model.channel_names) if is_mean else 0
        self._reach = reach

    @cached_property
    def _footprints(self) -> dict[int, Footprint]:
        """Footprints by streamed axis; equal axes are measured once."""
        network, shapes = self._model.build(), self._shapes
        found: dict[object, Footprint] = {}
        by_axis = {}
        for axis in range(shapes.has_time, shapes.dims):
            axes = self._axes(axis)
            kind = tuple(shapes.axes[a] for a in axes)
            if kind not in found:
                spec = StreamSpec(
                    shapes,
                    axes,
                    self._dtype,
                    torch.device("meta"),
                    CHUNK_VOXELS[self._limits.device],
                )
                found[kind] = measure_footprint(network, spec, *self._frames)
            by_axis[axis] = found[kind]
        return by_axis

    def _axes(self, first: int) -> Shape:
        """The streamed axis, the other ones, and time."""
        time = self._shapes.has_time
        others = (axis for axis in range(time, self._shapes.dims) if axis != first)
        return (first, *others, *range(time))

    def block(self, roi: Shape, chunk: Shape) -> Shape:
        """The block shape, a multiple of `chunk`, for a ROI of this shape (output voxels)."""
        slices = len(roi) - self._space
        whole = tuple(ceil(n / c) * c for n, c in zip(roi, chunk, strict=True))
        block = tuple(min(c, w) for c, w in zip(self._whole_frames(chunk), whole, strict=True))
        cost = self._cost(block[slices:])
        while True:
            grown = [
                self._grown(block, axis, chunk)
                for axis in range(slices, len(block))
                if block[axis] < whole[axis]
            ]
            allowed = [larger for larger in grown if self._allowed(larger, roi, chunk)]
            if not allowed:
                return even_blocks(block, whole, chunk)
            best = min(allowed, key=lambda larger: self._cost(larger[slices:]))
            gain = 1 - self._cost(best[slices:]) / cost
            if gain < MIN_GAIN:
                return even_blocks(block, whole, chunk)
            block, cost = best, self._cost(best[slices:])

    def _whole_frames(self, chunk: Shape) -> Shape:
        """The chunk, repeated in time as often as fits into the output of a pass."""
        if not self._shapes.has_time:
            return chunk
        frames = self._frames[0] - self._shapes.context[0]
        return (max(1, frames // chunk[0]) * chunk[0], *chunk[1:])

    def _grown(self, block: Shape, axis: int, chunk: Shape) -> Shape:
        return tuple(b + c * (a == axis) for a, (b, c) in enumerate(zip(block, chunk, strict=True)))

    def _cost(self, block: Shape) -> float:
        """Arithmetic per voxel of a block (its shape in space), up to a factor."""
        return flops(self._shapes, self._needed(block)) / prod(block)

    def _needed(self, block: Shape) -> Shape:
        """The input of a pass that covers a block in space, wherever it begins on the lattice."""
        shapes, time = self._shapes, self._shapes.has_time
        sizes = (
            -(-(b + context + scale * period - 1) // scale)
            for b, context, scale, period in zip(
                block, shapes.context[time:], shapes.scale[time:], shapes.period[time:], strict=True
            )
        )
        return shapes.valid_input_shape((*self._frames, *sizes), "up")

    def _allowed(self, block: Shape, roi: Shape, chunk: Shape) -> bool:
        count = prod(ceil(n / b) for n, b in zip(roi, block, strict=True))
        if count < BLOCKS_PER_WORKER * self._limits.workers:
            return False
        tile = self._needed(block[len(block) - self._space :])
        room = self._limits.memory - self._block_bytes(block, tile, chunk)
        return self._stream(tile, room)[1] <= room

    def _block_bytes(self, block: Shape, tile: Shape, chunk: Shape) -> int:
        """Bytes of input blocks in the slots and in the cache, and of rows of output.

        Rows are planes across the longest axis, along which the block is streamed. If a tile does
        not cover the whole plane, all rows stay in memory until the last tile.
        """
        slices, leading = len(block) - self._space, len(block) - self._shapes.dims
        frames = prod(block[:slices])
        if self._shapes.has_time:
            frames += self._shapes.context[0]
        raw = frames * prod(tile[-self._space :]) * self._raw_bytes
        inputs = self._limits.slots * raw + self._limits.cache_bytes(raw)
        longest = max(range(slices, len(block)), key=lambda axis: block[axis])
        covered = self._shapes.output_shape(tile)
        cut = any(
            covered[axis - leading] < block[axis]
            for axis in range(leading, len(block))
            if axis != longest
        )
        planes = block[longest] if cut else min(block[longest], ROWS_IN_MEMORY * chunk[longest])
        rows = prod(block) // block[longest] * planes * self._voxel_bytes
        sums = prod(block) * self._sum_bytes
        return inputs + sums + rows + self._padded_bytes(block, chunk, longest)

    def _padded_bytes(self, block: Shape, chunk: Shape, along: int) -> int:
        """Bytes of the padded copies of rows, if chunks reach beyond the block.

        Padding after the last slice is never touched, and takes no memory; padding within a slice
        shares pages with its values.
        """
        whole = tuple(ceil(n / c) * c for n, c in zip(block, chunk, strict=True))
        if whole == block:
            return 0
        copy = [block[0], *whole[1:]]
        row = min(copy[along], chunk[along])
        rows = min(ROWS_IN_MEMORY, ceil(block[along] / chunk[along]))
        return prod(copy) // copy[along] * row * rows * self._voxel_bytes

    def _stream(self, tile: Shape, room: int) -> tuple[Streaming, int]:
        """The streaming of a tile that needs the least memory, and its resident bytes.

        Slabs are made thinner to fit into `room` bytes, if necessary.
        """
        found = []
        for axis, footprint in self._footprints.items():
            plane = [tile[a] for a in self._axes(axis)[1:]]
            slab = self._slab(axis, plane)
            while resident(footprint.bytes(plane, slab)) > room and slab > self._period(axis):
                slab = self._whole_periods(axis, slab / 2)
            found.append((footprint.bytes(plane, slab), axis, slab))
        size, axis, slab = min(found)
        return Streaming(self._axes(axis), slab), resident(size)

    def _slab(self, axis: int, plane: Sequence[int]) -> int:
        """Input planes per slab, if memory does not limit them."""
        return self._whole_periods(axis, SLAB_VOXELS[self._limits.device] / prod(plane))

    def _whole_periods(self, axis: int, planes: float) -> int:
        return max(1, round(planes / self._period(axis))) * self._period(axis)

    def _period(self, axis: int) -> int:
        return self._shapes.period[axis]

    def tile(self, lattice: Lattice, roi: Roi, block: Shape, chunk: Shape) -> Shape:
        """The tile that the blocks of a ROI need, made smaller if the memory requires it.

        `lattice` may be for any tile, since its points are the same. The tile of a 2-D network over
        a volume is one slice.
        """
        slices = roi.dims - self._shapes.dims
        needed = needed_tile(lattice, roi, block, self._reach)[slices:]
        # A lattice's passes give at least a period of output, though a ROI may need less.
        tile = list(map(max, needed, smallest_tile(self._shapes)))
        tile[: len(self._frames)] = (min(*pair) for pair in zip(tile, self._frames, strict=False))
        return (1,) * slices + self._shrink(tuple(tile), crop_block(block, tuple(roi.shape)), chunk)

    def _shrink(self, tile: Shape, block: Shape, chunk: Shape) -> Shape:
        """The tile with its plane cut down until the stream fits into the memory."""
        smallest = smallest_tile(self._shapes)
        room = self._room(block, tile, chunk)
        while (found := self._stream(tile, room))[1] > room:
            first = found[0].axes[0]
            space = range(self._shapes.has_time, len(tile))
            plane = [a for a in space if a != first and tile[a] > smallest[a]]
            if not plane:
                break
            axis = max(plane, key=lambda a: tile[a])
            smaller = max(smallest[axis], tile[axis] - self._period(axis))
            tile = (*tile[:axis], smaller, *tile[axis + 1 :])
            room = self._room(block, tile, chunk)
        return tile

    def _room(self, block: Shape, tile: Shape, chunk: Shape) -> int:
        """Bytes for passes; a configured block alone may take more than the memory."""
        left = self._limits.memory - self._block_bytes(block, tile, chunk)
        return max(left, round(self._limits.memory * MIN_PASS_SHARE))

    def streaming(self, block: Shape, tile: Shape, chunk: Shape) -> Streaming:
        """The streaming of a tile (shape along the network's axes)."""
        return self._stream(tile, self._room(block, tile, chunk))[0]

    def bytes(self, block: Shape, tile: Shape, chunk: Shape) -> int:
        """Peak bytes of a worker's data, without the weights."""
        passes = self._stream(tile, self._room(block, tile, chunk))[1]
        return self._block_bytes(block, tile, chunk) + passes


def resident(tensors: int) -> int:
    """Resident bytes of a process for a stream with `tensors` bytes of tensors."""
    return round(tensors * ALLOCATION_FACTOR) + ALLOCATION_BYTES
