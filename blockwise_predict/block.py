"""One block, from reading to the committed write."""

from __future__ import annotations

import time
from collections import deque
from contextlib import closing
from dataclasses import dataclass

from funlib.geometry import Roi

from blockwise_predict.engine.border import read_padded
from blockwise_predict.engine.predictor import Predictor
from blockwise_predict.io import InputArray, OutputArray, Write
from blockwise_predict.lattice import Lattice
from blockwise_predict.memory import is_out_of_memory
from blockwise_predict.plan import Plan

# Rows that are still being written when the next is complete; more would only take memory.
WRITES_UNDER_WAY = 1


@dataclass(frozen=True)
class BlockReport:
    """What one block cost and what was found in it.

    `begin` is the block's first output voxel (from the input's origin), `values` the number of
    values written, of which `clipped` were outside the declared range and `nonfinite` NaN or
    infinite. Times in seconds; `compute` is that of the device, `write` what was left
    to write when the last row was computed.
    """

    begin: tuple[int, ...]
    voxels: int
    values: int
    clipped: int
    nonfinite: int
    read: float
    compute: float
    write: float


class BlockProcessor:
    """Reads, predicts and writes blocks of one plan; each stage may run in several threads."""

    def __init__(
        self, plan: Plan, source: InputArray, target: OutputArray, predictor: Predictor
    ) -> None:
        self.plan = plan
        self._source = source
        self._target = target
        self.predictor = predictor

    def process(self, block: Roi) -> BlockReport:
        """Do a block (output voxels from the input's origin). Returns after its writes' commits.

        If the memory is not enough, it is done again with a smaller tile, as are those after it.
        """
        while True:
            lattice = self.predictor.lattice
            try:
                return self._done(block, lattice)
            except Exception as error:
                if not is_out_of_memory(error) or not self.predictor.shrink(lattice):
                    raise
            # Outside `except`, where the error no longer keeps the memory of what failed.
            self._tell_of_shrinking(lattice)

    def _done(self, block: Roi, lattice: Lattice) -> BlockReport:
        started = time.perf_counter()
        read_roi = lattice.read_roi(block)
        raw = read_padded(self._source, read_roi, self.plan.border)
        after_read = time.perf_counter()
        values = clipped = nonfinite = 0
        compute = 0.0
        writes: deque[Write] = deque()
        # Closed at once when a write fails: a prediction left half done would keep the device.
        with closing(self.predictor.predict(raw, read_roi, block, lattice)) as rows:
            for row in rows:
                begin = tuple(row.roi.begin - self.plan.output.roi.begin)
                writes.append(self._target.start_write(begin, row.data))
                if len(writes) > WRITES_UNDER_WAY:
                    writes.popleft().result()
                values += row.data.size
                clipped += row.clipped
                nonfinite += row.nonfinite
                compute += row.seconds
        after_compute = time.perf_counter()
        for write in writes:
            write.result()
        return BlockReport(
            begin=tuple(block.begin),
            voxels=block.size,
            values=values,
            clipped=clipped,
            nonfinite=nonfinite,
            read=after_read - started,
            compute=compute,
            write=time.perf_counter() - after_compute,
        )

    def _tell_of_shrinking(self, lattice: Lattice) -> None:
        before, after = lattice.tile_shape, self.predictor.lattice.tile_shape
        print(f"out of memory: tiles are {after} instead of {before} input voxels", flush=True)
