"""One network on one device: a raw block in, the rows of the predicted block out."""

from __future__ import annotations

import itertools
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Protocol

import numpy as np
import torch
from funlib.geometry import Roi
from numpy.typing import NDArray

from blockwise_predict.engine.encode import encode
from blockwise_predict.engine.passes import OutputPlanes, Pass
from blockwise_predict.engine.values import Part
from blockwise_predict.errors import ConfigError
from blockwise_predict.geometry.lattice import Lattice, Tile

# Values that are encoded at once. On a CPU, larger strips miss its caches and take five times as
# long.
STRIP_VALUES = {"cpu": 500_000, "cuda": 500_000_000}


def choose_device(name: str, worker: int = 0) -> torch.device:
    """The torch device for `auto`, `cpu`, `cuda` or `cuda:N`.

    `auto` and `cuda` assign GPUs to workers in turn. Raises ConfigError if the requested GPU does
    not exist.
    """
    count = torch.cuda.device_count()
    if name == "cpu" or (name == "auto" and count == 0):
        return torch.device("cpu")
    index = int(name.partition(":")[2] or worker % max(count, 1))
    if index >= count:
        raise ConfigError(
            f"--device {name}: this machine has {count} usable CUDA GPUs. "
            "Use --device cpu, or check the driver and CUDA_VISIBLE_DEVICES."
        )
    return torch.device("cuda", index)


def describe_device(device: torch.device) -> str:
    """`cuda:0, NVIDIA H100`, or `cpu, 2 threads`."""
    if device.type == "cuda":
        return f"{device}, {torch.cuda.get_device_name(device)}"
    threads = torch.get_num_threads()
    return f"{device}, {threads} thread{'s' if threads > 1 else ''}"


@dataclass
class PredictedPart:
    """A part's values as they are stored: `[channels, *spatial]`.

    clipped, nonfinite: number of values that were clipped, or are NaN or infinite.
    """

    data: NDArray[np.generic]
    clipped: int = 0
    nonfinite: int = 0


@dataclass
class PredictedRow:
    """The voxels `roi` (output voxels) of a block, in all parts.

    missing: voxels still to be predicted.
    seconds: computing time since the row before it, without the time the consumer took.
    """

    roi: Roi
    parts: tuple[PredictedPart, ...]
    missing: int
    seconds: float = 0.0


class BlockPredictor(Protocol):
    """What processes blocks, pass by pass; see `Predictor`, which is the simplest."""

    lattice: Lattice

    def predict(
        self, raw: NDArray[np.generic], read: Roi, block: Roi, lattice: Lattice
    ) -> Generator[PredictedRow]: ...

    def shrink(self, lattice: Lattice) -> bool: ...


# By their positions along the axes that rows follow each other along.
Rows = dict[tuple[int, ...], PredictedRow]


class Predictor:
    """Predicts blocks by passes over tiles, all on one thread (see `compute_queue`).

    A block is handed out in rows, of `row_shape` along the axis in which a pass proceeds, and along
    those of slices, so that rows can be written while later ones are computed: `row_shape` is a
    chunk, or a shard of several. `parts` are all channels of the network, in their order. `lattice`
    is the current one; `shrink` may replace it.
    """

    def __init__(
        self,
        network: Pass,
        lattice: Lattice,
        *,
        parts: Sequence[Part],
        row_shape: Sequence[int],
    ) -> None:
        self.lattice = lattice
        self._network = network
        self._parts = tuple(parts)
        self._row_shape = tuple(row_shape)

    def predict(
        self, raw: NDArray[np.generic], read: Roi, block: Roi, lattice: Lattice
    ) -> Generator[PredictedRow]:
        """Predict a block; yields each of its rows as soon as it is complete.

        `raw` is `[C, *spatial]` as stored and covers the input ROI `read` (voxels from the input's
        origin), which must contain `lattice.read_roi(block)`. `block` is in output voxels from the
        same origin.
        """
        rows: Rows = {}
        since = time.perf_counter()
        for tile in lattice.cover(block):
            source = (tile.read - read.begin).to_slices()
            for planes in self._network.run(raw[(slice(None), *source)]):
                for row in self._place(planes, tile, block, rows):
                    row.seconds = time.perf_counter() - since
                    yield row
                    since = time.perf_counter()

    def shrink(self, lattice: Lattice) -> bool:
        """Use smaller tiles after a block with `lattice` ran out of memory.

        Halves the tile across the streamed axis, unless another block already did. Returns False if
        the tile cannot be halved any further.
        """
        if self.lattice is lattice:
            smaller = lattice.halved(self._network.axes[1:])
            if smaller is None:
                return False
            self.lattice = smaller
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        return True

    def _place(
        self,
        planes: OutputPlanes,
        tile: Tile,
        block: Roi,
        rows: Rows,
    ) -> Iterator[PredictedRow]:
        """Store the kept part of some planes of a tile; yields the rows that it completes."""
        axes = self._network.axes
        shift = tile.keep.begin - tile.crop.begin
        kept = planes_roi(planes, axes).intersect(tile.crop)
        if kept.empty:
            return
        along, target = axes[: 1 + len(planes.place)], kept + shift
        for number in self._row_numbers(target - block.begin, along):
            if number not in rows:
                rows[number] = self._new_row(block, along, number)
            row = rows[number]
            part = target.intersect(row.roi)
            self._store(part, part - shift, planes, row)
            if row.missing == 0:
                yield rows.pop(number)

    def _row_numbers(self, in_block: Roi, along: Sequence[int]) -> Iterator[tuple[int, ...]]:
        """The rows that hold a part of a block, by their positions `along` some axes."""
        ranges = []
        for axis in along:
            edge = self._row_shape[axis]
            last = (in_block.end[axis] - 1) // edge
            ranges.append(range(in_block.begin[axis] // edge, last + 1))
        return itertools.product(*ranges)

    def _new_row(self, block: Roi, along: Sequence[int], number: Sequence[int]) -> PredictedRow:
        begin, shape = list(block.begin), list(block.shape)
        for axis, position in zip(along, number, strict=True):
            begin[axis] += position * self._row_shape[axis]
            shape[axis] = self._row_shape[axis]
        roi = Roi(begin, shape).intersect(block)
        parts = (np.empty((p.stored_channels, *roi.shape), p.encoding.dtype) for p in self._parts)
        return PredictedRow(roi, tuple(map(PredictedPart, parts)), missing=roi.size)

    @torch.inference_mode()
    def _store(self, target: Roi, in_tile: Roi, planes: OutputPlanes, row: PredictedRow) -> None:
        """Encode the part `in_tile` of some planes and store it at `target`, within a row."""
        axes = self._network.axes
        source = cut_planes(planes, in_tile, axes)
        place = (target - row.roi.begin).to_slices()
        order = (*(1 + axis for axis in axes), 0)
        stored = [
            torch.from_numpy(part.data)[(slice(None), *place)].permute(order) for part in row.parts
        ]
        sizes = [part.channels for part in self._parts]
        for strip in strips(source):
            values = self._network.activate(source[strip]).split(sizes, dim=-1)
            for number, part in enumerate(row.parts):
                encoded = encode(values[number], self._parts[number].encoding)
                stored[number][strip].copy_(encoded.data)
                part.clipped += encoded.clipped
                part.nonfinite += encoded.nonfinite
        row.missing -= target.size


def strips(values: torch.Tensor) -> Iterator[tuple[int | slice, ...]]:
    """Indices of parts of `[n, *plane, K]` that are encoded at once."""
    room = STRIP_VALUES[values.device.type]
    if (planes := room // prod(values.shape[1:])) > 0:
        yield from ((slice(begin, begin + planes),) for begin in range(0, len(values), planes))
        return
    # Axes of slices have the length 1.
    axis = next((a for a in range(1, values.ndim - 1) if values.shape[a] > 1), 1)
    count = max(1, room // prod(values.shape[axis + 1 :]))
    for plane in range(len(values)):
        for begin in range(0, values.shape[axis], count):
            yield plane, *[slice(None)] * (axis - 1), slice(begin, begin + count)


def planes_roi(planes: OutputPlanes, axes: tuple[int, ...]) -> Roi:
    """The ROI of some planes in their tile's output, axes in volume order."""
    begin, shape = [0] * len(axes), [0] * len(axes)
    for axis, index in zip(axes, (planes.begin, *planes.place), strict=False):
        begin[axis] = index
    for axis, size in zip(axes, planes.values.shape[:-1], strict=True):
        shape[axis] = size
    return Roi(begin, shape)


def cut_planes(planes: OutputPlanes, roi: Roi, axes: tuple[int, ...]) -> torch.Tensor:
    """The values of a ROI (axes in volume order) of a tile's output, from the planes it lies in."""
    window = (roi - planes_roi(planes, axes).begin).to_slices()
    return planes.values[tuple(window[axis] for axis in axes)]
