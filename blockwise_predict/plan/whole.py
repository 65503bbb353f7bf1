"""Choosing the tile of a network that runs in whole passes, of any valid size."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from funlib.geometry import Roi

from blockwise_predict.engine.precision import DTYPES
from blockwise_predict.geometry.lattice import Lattice
from blockwise_predict.geometry.tiling import build_lattice
from blockwise_predict.plan.blocks import needed_tile
from blockwise_predict.plan.opened import Opened
from blockwise_predict.plan.sizing import Limits

VALUE_BYTES = DTYPES["float32"].itemsize


@dataclass(frozen=True)
class WholePasses:
    """Tiles for the blocks of a ROI within a worker's limits, each of them one pass."""

    opened: Opened
    limits: Limits
    roi: Roi
    block: tuple[int, ...]

    def lattice(self, smallest: Lattice) -> Lattice:
        """The lattice with the tile that a block needs, halved until it fits into the memory.

        `smallest` may be for any tile, since its points are the same. The tile of a 2-D network
        over a volume is one slice.
        """
        tile = needed_tile(smallest, self.roi, self.block)
        slices = len(tile) - self.opened.model.shapes.dims
        tile = (1,) * slices + tile[slices:]
        lattice = build_lattice(self.opened.model.shapes, tile)
        while self.bytes(lattice) > self.limits.memory:
            smaller = lattice.halved(range(len(tile)))
            if smaller is None:
                break
            lattice = smaller
        return lattice

    def bytes(self, lattice: Lattice) -> int:
        """Peak bytes of a worker's data, without the weights: a pass, and the blocks in its slots.

        Their input is that of a block in every slot; of the output, one block is in memory.
        """
        model = self.opened.model
        passed = model.peak_elements(lattice.tile_shape[-model.shapes.dims :]) * VALUE_BYTES
        read = int(lattice.read_roi(Roi(self.roi.begin, self.block)).size) * self.opened.raw_bytes
        written = prod(self.block) * self.opened.output_bytes
        return passed + self.limits.slots * read + self.limits.cache_bytes(read) + written
