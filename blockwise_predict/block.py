"""One block, from reading to the committed write."""

from __future__ import annotations

import time
from collections import deque
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import numpy as np
from funlib.geometry import Roi
from numpy.typing import NDArray

from blockwise_predict.engine.border import read_padded
from blockwise_predict.engine.predictor import Predictor
from blockwise_predict.engine.turns import Turn, at_once
from blockwise_predict.io import InputArray, OutputArray, Write
from blockwise_predict.lattice import Lattice
from blockwise_predict.memory import is_out_of_memory
from blockwise_predict.plan import Plan

# Rows that are still being written when the next is complete; more would only take memory.
WRITES_UNDER_WAY = 1


@dataclass
class BlockReport:
    """What one block cost and what was found in it.

    `begin` is the block's first output voxel (from the input's origin), `values` the number of
    values written, of which `clipped` were outside the declared range and `nonfinite` NaN or
    infinite. Times in seconds; `compute` is that of the device, `write` what was left to write
    when the last row was computed.
    """

    begin: tuple[int, ...]
    voxels: int
    values: int = 0
    clipped: int = 0
    nonfinite: int = 0
    read: float = 0.0
    compute: float = 0.0
    write: float = 0.0


class BlockProcessor:
    """Reads, predicts and writes blocks of one plan, from several threads if they take turns."""

    def __init__(
        self, plan: Plan, source: InputArray, target: OutputArray, predictor: Predictor
    ) -> None:
        self.plan = plan
        self._source = source
        self._target = target
        self.predictor = predictor

    def process(self, block: Roi, turn: Turn = at_once) -> BlockReport:
        """Do a block (output voxels from the input's origin). Returns after its writes' commits.

        What needs the device is done in a `turn`. If the memory is not enough, the block is done
        again with a smaller tile, as are those after it.
        """
        while True:
            lattice = self.predictor.lattice
            try:
                return self._done(block, lattice, turn)
            except Exception as error:
                if not is_out_of_memory(error) or not turn(partial(self.predictor.shrink, lattice)):
                    raise
            # Outside `except`, where the error no longer keeps the memory of what failed.
            self._tell_of_shrinking(lattice)

    def _done(self, block: Roi, lattice: Lattice, turn: Turn) -> BlockReport:
        started = time.perf_counter()
        read_roi = lattice.read_roi(block)
        raw = read_padded(self._source, read_roi, self.plan.border)
        report = BlockReport(
            begin=tuple(block.begin), voxels=block.size, read=time.perf_counter() - started
        )
        writes = turn(lambda: self._predict(raw, read_roi, block, lattice, report))
        computed = time.perf_counter()
        for write in writes:
            write.result()
        report.write = time.perf_counter() - computed
        return report

    def _predict(
        self,
        raw: NDArray[np.generic],
        read_roi: Roi,
        block: Roi,
        lattice: Lattice,
        report: BlockReport,
    ) -> deque[Write]:
        """Predict a block and begin to write its rows; returns the writes that are under way."""
        writes: deque[Write] = deque()
        # Closed at once when a write fails: a prediction left half done would keep its memory.
        with closing(self.predictor.predict(raw, read_roi, block, lattice)) as rows:
            for row in rows:
                begin = tuple(row.roi.begin - self.plan.output.roi.begin)
                writes.append(self._target.start_write(begin, row.data))
                if len(writes) > WRITES_UNDER_WAY:
                    writes.popleft().result()
                report.values += row.data.size
                report.clipped += row.clipped
                report.nonfinite += row.nonfinite
                report.compute += row.seconds
        return writes

    def _tell_of_shrinking(self, lattice: Lattice) -> None:
        before, after = lattice.tile_shape, self.predictor.lattice.tile_shape
        print(f"out of memory: tiles are {after} instead of {before} input voxels", flush=True)
