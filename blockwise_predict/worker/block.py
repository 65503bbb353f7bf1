"""One block, from reading to the committed write."""

from __future__ import annotations

import logging
import re
import time
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
from funlib.geometry import Roi
from numpy.typing import NDArray

from blockwise_predict.engine.border import read_padded
from blockwise_predict.engine.memory import is_out_of_memory
from blockwise_predict.engine.predictor import Predictor
from blockwise_predict.engine.turns import Turn, at_once
from blockwise_predict.geometry.lattice import Lattice
from blockwise_predict.io import (
    BadInputError,
    CheckedInput,
    InputArray,
    OutputArray,
    Write,
    metadata_digest,
    reason_of,
)
from blockwise_predict.plan.model import Plan

_log = logging.getLogger(__name__)

# What a place that takes no more says: space, quota, a disk that became read-only.
_STORAGE_FULL = re.compile(
    r"No space left on device|Disk quota exceeded|Read-only file system|QuotaExceeded"
)
# Rows that are still being written when the next is complete; more would only take memory.
WRITES_UNDER_WAY = 1


@dataclass
class BlockReport:
    """What one block cost and what was found in it.

    `begin` is the block's first output voxel (from the input's origin), `values` the number of
    values written, of which `clipped` were outside the declared range and `nonfinite` NaN or
    infinite. `filled` is the number of input chunks that the fill value stood in for, and `note`
    names the first; of a block that was left out for its input, `skipped`, it says why. Times in
    seconds; `compute` is that of the device, `write` what was left to write
    when the last row was computed.
    """

    begin: tuple[int, ...]
    voxels: int
    values: int = 0
    clipped: int = 0
    nonfinite: int = 0
    filled: int = 0
    skipped: bool = False
    note: str = ""
    read: float = 0.0
    compute: float = 0.0
    write: float = 0.0


class StageError(Exception):
    """What went wrong in reading, computing or writing a block: `stage: Type: message`."""


class FatalError(Exception):
    """Every other block would fail as this one did, through no fault of its own."""


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Say in which part of a block's work an error came up."""
    try:
        yield
    except (StageError, FatalError):
        raise
    except Exception as error:
        # Told apart by the caller, who may have a remedy.
        if is_out_of_memory(error):
            raise
        what = str(error) if isinstance(error, BadInputError) else describe(error)
        if name == "writing" and _STORAGE_FULL.search(what):
            raise FatalError(
                f"the output cannot be written: {what}\nNothing that was finished is lost. Make "
                "room, then run the same command again."
            ) from error
        raise StageError(f"{name}: {what}") from error


def describe(error: Exception) -> str:
    """An error as its type and its message, without what tensorstore adds for its developers."""
    return f"{type(error).__name__}: {reason_of(error)}"


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
        report = BlockReport(begin=tuple(block.begin), voxels=block.size)
        read_roi = lattice.read_roi(block)
        with stage("reading"):
            raw = self._read(read_roi, report)
        report.read = time.perf_counter() - started
        if raw is None:
            return report
        with stage("computing"):
            writes = turn(lambda: self._predict(raw, read_roi, block, lattice, report))
        computed = time.perf_counter()
        for write in writes:
            with stage("writing"):
                write.result()
        report.write = time.perf_counter() - computed
        return report

    def _read(self, roi: Roi, report: BlockReport) -> NDArray[np.generic] | None:
        """The input of a block; None if the block is to be left out for it."""
        rule = self.plan.config.bad_input
        self._check_input()
        source = CheckedInput(self._source, rule)
        try:
            raw = read_padded(source, roi, self.plan.border)
        except BadInputError as error:
            if rule != "skip":
                raise
            report.skipped, report.note = True, str(error)
            return None
        report.filled, report.note = source.filled, source.note
        return raw

    def _check_input(self) -> None:
        """Raise FatalError if the input is not stored as it was when the run was planned."""
        if metadata_digest(self._source.path) != self.plan.input.metadata_sha256:
            raise FatalError(
                f"the input {self._source.path} has been changed while the run went on: it is not "
                "stored as it was. Put it back, and run again; or predict the new one with another "
                "--output, or with --overwrite."
            )

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
                with stage("writing"):
                    writes.append(self._target.start_write(begin, row.data))
                if len(writes) > WRITES_UNDER_WAY:
                    with stage("writing"):
                        writes.popleft().result()
                report.values += row.data.size
                report.clipped += row.clipped
                report.nonfinite += row.nonfinite
                report.compute += row.seconds
        return writes

    def _tell_of_shrinking(self, lattice: Lattice) -> None:
        before, after = lattice.tile_shape, self.predictor.lattice.tile_shape
        _log.warning("out of memory: tiles are %s instead of %s input voxels", after, before)
