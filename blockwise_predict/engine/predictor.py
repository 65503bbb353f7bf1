"""One network on one device: raw numpy block in, finished numpy block out."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from funlib.geometry import Roi
from numpy.typing import NDArray

from blockwise_predict.engine.encode import encode
from blockwise_predict.engine.passes import Pass
from blockwise_predict.engine.values import Encoding
from blockwise_predict.errors import ConfigError
from blockwise_predict.geometry.lattice import Lattice, Tile


def choose_device(name: str, worker: int = 0) -> torch.device:
    """The torch device for `auto`, `cpu`, `cuda` or `cuda:N`; `auto` and `cuda` deal out the GPUs.

    Raises ConfigError if the GPU that was asked for is not there.
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


# Values that are encoded at once. In larger parts, on a CPU, it takes five times as long.
STRIP_VALUES = {"cpu": 500_000, "cuda": 500_000_000}


@dataclass
class PredictedRow:
    """A part of a block as it is stored: `[K, *roi]`, `roi` in output voxels.

    `clipped` and `nonfinite` count its values that were clipped, or are not finite; `seconds` is
    what was computed since the row before it, without waiting for others.
    """

    roi: Roi
    data: NDArray[np.generic]
    missing: int
    clipped: int = 0
    nonfinite: int = 0
    seconds: float = 0.0


class Predictor:
    """Runs the passes of a block; for one thread (see `turns`).

    A block is handed out in rows of whole chunks along the axis of the passes' pieces, so that they
    can be written while the next ones are computed. `lattice` is the one to predict with now.
    """

    def __init__(
        self,
        network: Pass,
        lattice: Lattice,
        channels: int,
        encoding: Encoding,
        chunk_shape: Sequence[int],
    ) -> None:
        self.lattice = lattice
        self._network = network
        self._channels = channels
        self._encoding = encoding
        self._row = chunk_shape[network.axes[0]]

    def predict(
        self, raw: NDArray[np.generic], read: Roi, block: Roi, lattice: Lattice
    ) -> Generator[PredictedRow]:
        """Predict a block; yields its rows, each as soon as it is complete.

        `raw` is `[C, *spatial]`, as stored, and covers the input ROI `read` (voxels from the
        input's origin), which must hold what `lattice.read_roi(block)` says. `block` is in output
        voxels from the same origin.
        """
        rows: dict[int, PredictedRow] = {}
        since = time.perf_counter()
        for tile in lattice.cover(block):
            source = (tile.read - read.begin).to_slices()
            for begin, values in self._network.run(raw[(slice(None), *source)]):
                for row in self._place(begin, values, tile, block, rows):
                    row.seconds = time.perf_counter() - since
                    yield row
                    since = time.perf_counter()

    def shrink(self, lattice: Lattice) -> bool:
        """After `lattice` was too large for the memory: make the tile smaller from now on.

        Returns whether there is another one to try. The tile is halved across the streamed axis.
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
        begin: int,
        values: torch.Tensor,
        tile: Tile,
        block: Roi,
        rows: dict[int, PredictedRow],
    ) -> Iterator[PredictedRow]:
        """Store what of a piece of a tile is kept, and give the rows that it completes.

        `begin` is the piece's first plane in the tile.
        """
        axes = self._network.axes
        shift = tile.keep.begin - tile.crop.begin
        piece = _in_natural_order(begin, values, axes).intersect(tile.crop)
        if piece.empty:
            return
        along, placed = axes[0], piece + shift
        first = (placed.begin[along] - block.begin[along]) // self._row
        last = (placed.end[along] - 1 - block.begin[along]) // self._row
        for number in range(first, last + 1):
            row = rows.setdefault(number, self._new_row(block, along, number))
            part = placed.intersect(row.roi)
            self._store(part, part - shift, begin, values, row)
            if row.missing == 0:
                yield rows.pop(number)

    def _new_row(self, block: Roi, along: int, number: int) -> PredictedRow:
        begin, shape = list(block.begin), list(block.shape)
        begin[along] += number * self._row
        shape[along] = self._row
        roi = Roi(begin, shape).intersect(block)
        data = np.empty((self._channels, *roi.shape), self._encoding.dtype)
        return PredictedRow(roi, data, missing=roi.size)

    @torch.inference_mode()
    def _store(
        self, target: Roi, in_tile: Roi, begin: int, values: torch.Tensor, row: PredictedRow
    ) -> None:
        """Encode the part `in_tile` of a piece, and put it to `target`, within a row."""
        axes = self._network.axes
        window = list(in_tile.to_slices())
        window[axes[0]] = slice(in_tile.begin[axes[0]] - begin, in_tile.end[axes[0]] - begin)
        source = values[tuple(window[axis] for axis in axes)]
        place = (target - row.roi.begin).to_slices()
        stored = torch.from_numpy(row.data)[(slice(None), *place)]
        stored = stored.permute(*(1 + axis for axis in axes), 0)
        for strip in _strips(source):
            encoded = encode(self._network.finished(source[strip]), self._encoding)
            stored[strip].copy_(encoded.data)
            row.clipped += encoded.clipped
            row.nonfinite += encoded.nonfinite
        row.missing -= target.size


def _strips(values: torch.Tensor) -> Iterator[tuple[int, slice]]:
    """Parts of `[n, *plane, K]`: on a CPU such that each stays in its caches until it is stored."""
    count = max(1, STRIP_VALUES[values.device.type] // prod(values.shape[2:]))
    for plane in range(len(values)):
        for begin in range(0, values.shape[1], count):
            yield plane, slice(begin, begin + count)


def _in_natural_order(begin: int, values: torch.Tensor, axes: tuple[int, ...]) -> Roi:
    """Where a piece lies in its tile's output."""
    first, shape = [0] * len(axes), [0] * len(axes)
    first[axes[0]] = begin
    for axis, size in zip(axes, values.shape[:-1], strict=True):
        shape[axis] = size
    return Roi(first, shape)
