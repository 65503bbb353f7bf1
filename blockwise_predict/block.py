"""One block, from reading to the committed write."""

from __future__ import annotations

import time
from dataclasses import dataclass

from funlib.geometry import Roi

from blockwise_predict.engine.border import read_padded
from blockwise_predict.engine.predictor import Predictor
from blockwise_predict.io import InputArray, OutputArray
from blockwise_predict.plan import Plan


@dataclass(frozen=True)
class BlockReport:
    """What one block cost and what was found in it.

    `begin` is the block's first output voxel (from the input's origin), `values` the number of
    values written, of which `clipped` were outside the declared range and `nonfinite` NaN or
    infinite. Times in seconds; `compute` includes waiting for the device.
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
        self._predictor = predictor

    def process(self, block: Roi) -> BlockReport:
        """Do a block (output voxels from the input's origin). Returns after its write's commit."""
        started = time.perf_counter()
        read_roi = self.plan.lattice.read_roi(block)
        raw = read_padded(self._source, read_roi, self.plan.border)
        after_read = time.perf_counter()
        predicted = self._predictor.predict(raw, read_roi, block)
        after_compute = time.perf_counter()
        begin = tuple(block.begin - self.plan.output.roi.begin)
        self._target.write(begin, predicted.data)
        return BlockReport(
            begin=tuple(block.begin),
            voxels=block.size,
            values=predicted.data.size,
            clipped=predicted.clipped,
            nonfinite=predicted.nonfinite,
            read=after_read - started,
            compute=after_compute - after_read,
            write=time.perf_counter() - after_compute,
        )
