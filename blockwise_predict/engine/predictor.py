"""One network on one device: raw numpy block in, finished numpy block out."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
import torch
from funlib.geometry import Coordinate, Roi
from numpy.typing import NDArray

from blockwise_predict.engine.passes import Pass
from blockwise_predict.engine.values import Encoding
from blockwise_predict.errors import ConfigError
from blockwise_predict.lattice import Lattice, Tile


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


@dataclass
class PredictedBlock:
    """A block as stored, `[K, *block]`; how many of its values were clipped, or not finite."""

    data: NDArray[np.generic]
    clipped: int = 0
    nonfinite: int = 0


class Predictor:
    """Runs the passes of a block; safe to call from several threads, which take turns."""

    def __init__(self, network: Pass, lattice: Lattice, channels: int, encoding: Encoding) -> None:
        self.lattice = lattice
        self._network = network
        self._channels = channels
        self._encoding = encoding
        self._compute = threading.Lock()

    def predict(self, raw: NDArray[np.generic], read: Roi, block: Roi) -> PredictedBlock:
        """Predict a block.

        `raw` is `[C, *spatial]`, as stored, and covers the input ROI `read` (voxels from the
        input's origin), which must hold what `Lattice.read_roi(block)` says. `block` is in output
        voxels from the same origin.
        """
        data = np.empty((self._channels, *block.shape), self._encoding.dtype)
        result = PredictedBlock(data)
        with self._compute:
            for tile in self.lattice.cover(block):
                source = (tile.read - read.begin).to_slices()
                for begin, values in self._network.run(raw[(slice(None), *source)]):
                    self._place(begin, values, tile, block, result)
        return result

    def _place(
        self, begin: int, values: torch.Tensor, tile: Tile, block: Roi, result: PredictedBlock
    ) -> None:
        """Store what of a piece of a tile is kept; `begin` is its first plane in the tile."""
        axes = self._network.axes
        first = [0] * len(axes)
        first[axes[0]] = begin
        shape = [0] * len(axes)
        for axis, size in zip(axes, values.shape[:-1], strict=True):
            shape[axis] = size
        kept = Roi(first, shape).intersect(tile.crop)
        if kept.empty:
            return
        window = (kept - Coordinate(first)).to_slices()
        encoded = self._encoding.encode(values[tuple(window[axis] for axis in axes)])
        result.clipped += encoded.clipped
        result.nonfinite += encoded.nonfinite
        natural = encoded.data.permute(-1, *(axes.index(axis) for axis in range(len(axes))))
        place = (kept - tile.crop.begin + tile.keep.begin - block.begin).to_slices()
        result.data[(slice(None), *place)] = natural.cpu().numpy()
