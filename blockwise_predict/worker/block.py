"""One block, from reading its input to the committed write."""

from __future__ import annotations

import logging
import re
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
from funlib.geometry import Roi
from numpy.typing import NDArray

from blockwise_predict.engine.border import read_padded
from blockwise_predict.engine.compute_queue import Compute, compute_inline
from blockwise_predict.engine.memory import is_out_of_memory
from blockwise_predict.engine.predictor import BlockPredictor, PredictedRow
from blockwise_predict.geometry.lattice import Lattice
from blockwise_predict.io import (
    BadInputError,
    BlockSource,
    CheckedInput,
    DecodedChunks,
    GappedArray,
    Write,
    reason_of,
)
from blockwise_predict.plan.model import Plan
from blockwise_predict.plan.reading import Reading
from blockwise_predict.records.ledger import State, outcome

_log = logging.getLogger(__name__)

# Errors of storage that accepts no more data: it is full, over quota, or read-only.
_STORAGE_FULL = re.compile(
    r"No space left on device|Disk quota exceeded|Read-only file system|QuotaExceeded"
)
# Maximum number of rows being written while the next one is computed; more would only take memory.
WRITES_IN_FLIGHT = 1


# One number for each array of the output.
Counts = tuple[int, ...]


@dataclass
class BlockReport:
    """The outcome of one block.

    begin: the block's first output voxel, counted from the input's origin.
    clipped, nonfinite: for each array of the output, the number of values that were outside its
        declared range, or NaN or infinite.
    values: number of values written.
    filled: number of input chunks that were replaced by the fill value; `note` names the first.
    skipped: whether the block was left out since its input could not be read; `note` says why.
    empty: whether it was left out since its input is nothing but the fill value.
    read, compute, write: durations in seconds; `compute` is the device's, and `write` lasts from
        the last computed row to the commit.
    """

    begin: tuple[int, ...]
    voxels: int
    clipped: Counts
    nonfinite: Counts
    values: int = 0
    filled: int = 0
    skipped: bool = False
    empty: bool = False
    note: str = ""
    read: float = 0.0
    compute: float = 0.0
    write: float = 0.0

    @property
    def state(self) -> State:
        """What has become of the block."""
        return outcome(skipped=self.skipped, empty=self.empty, filled=self.filled)

    def count(self, row: PredictedRow) -> None:
        """Count a row that is computed."""
        self.values += sum(part.data.size for part in row.parts)
        self.clipped = _added(self.clipped, [part.clipped for part in row.parts])
        self.nonfinite = _added(self.nonfinite, [part.nonfinite for part in row.parts])
        self.compute += row.seconds


def _is_constant(data: NDArray[np.generic], value: np.generic) -> bool:
    """Whether all of an array is one value, which may be NaN."""
    # Most blocks differ in their first voxel already.
    if not np.array_equal(data.flat[:1], [value], equal_nan=True):
        return False
    return bool(np.isnan(data).all() if np.isnan(value) else (data == value).all())


def _added(counts: Counts, more: Sequence[int]) -> Counts:
    return tuple(a + b for a, b in zip(counts, more, strict=True))


class StageError(Exception):
    """An error in reading, computing or writing a block: `stage: Type: message`."""


class FatalError(Exception):
    """An error that every other block would meet, too."""


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Turn errors into a StageError that names the stage, or a FatalError if storage is full."""
    try:
        yield
    except (StageError, FatalError):
        raise
    except Exception as error:
        # The caller retries with a smaller tile.
        if is_out_of_memory(error):
            raise
        reason = str(error) if isinstance(error, BadInputError) else describe(error)
        if name == "writing" and _STORAGE_FULL.search(reason):
            raise FatalError(
                f"the output cannot be written: {reason}\nNothing that was finished is lost. Make "
                "room, then run the same command again."
            ) from error
        raise StageError(f"{name}: {reason}") from error


def describe(error: Exception) -> str:
    """An error's type and message, without the details that tensorstore adds for developers."""
    return f"{type(error).__name__}: {reason_of(error)}"


def _await(writes: Sequence[Write]) -> None:
    """Wait until writes are committed."""
    for write in writes:
        with stage("writing"):
            write.result()


class Target(Protocol):
    """Receives the values of blocks: an OutputArray, or an array in memory."""

    def start_write(self, begin: Sequence[int], data: NDArray[Any]) -> Write:
        """Start writing `data`, `[channels, *spatial]`, at voxel `begin` of the output."""


class BlockProcessor:
    """Reads, predicts and writes blocks of one plan.

    `targets` are the arrays of the plan's output, in its order. Several threads may use this, if
    their `compute` has one of them compute at a time. With `reading`, decoded chunks are kept for
    later blocks of that order.
    """

    def __init__(
        self,
        plan: Plan,
        source: BlockSource,
        targets: Sequence[Target],
        predictor: BlockPredictor,
        *,
        reading: Reading | None = None,
    ) -> None:
        self.plan = plan
        self._reading = reading if reading is not None and reading.kept_bytes else None
        self._chunks = DecodedChunks(source, 0 if reading is None else reading.kept_bytes)
        self._source = source
        self._targets = targets
        self.predictor = predictor

    @property
    def name(self) -> str:
        """What it does, for logs."""
        return self.plan.network.checkpoint

    def process_number(self, number: int, compute: Compute) -> BlockReport:
        """Process the block with a number of the plan."""
        return self.process(self.plan.numbered_block(number), compute)

    def process(self, block: Roi, compute: Compute = compute_inline) -> BlockReport:
        """Process a block (output voxels from the input's origin); returns when it is committed.

        `compute` runs what needs the device. If memory runs out, this block is processed again with
        a smaller tile, which all later blocks use as well.
        """
        while True:
            lattice = self.predictor.lattice
            try:
                return self._try(block, lattice, compute)
            except Exception as error:
                if not is_out_of_memory(error) or not compute(
                    partial(self.predictor.shrink, lattice)
                ):
                    raise
            # Outside `except`: there, the error would keep the memory of the failed attempt.
            self._log_shrinking(lattice)

    def _try(self, block: Roi, lattice: Lattice, compute: Compute) -> BlockReport:
        started = time.perf_counter()
        none = (0,) * len(self._targets)
        report = BlockReport(tuple(block.begin), block.size, clipped=none, nonfinite=none)
        with stage("reading"):
            raw = self._read(block, lattice, report)
        report.read = time.perf_counter() - started
        if raw is None:
            return report
        with stage("computing"):
            writes = compute(lambda: self._predict(raw, block, lattice, report))
        computed = time.perf_counter()
        while writes:
            _await(writes.popleft())
        report.write = time.perf_counter() - computed
        return report

    def _read(
        self, block: Roi, lattice: Lattice, report: BlockReport
    ) -> NDArray[np.generic] | None:
        """The input of a block; None if the block is skipped because of it."""
        rule = self.plan.config.bad_input
        self._check_input()
        try:
            with self._reading_for(block) as array:
                source = CheckedInput(array, rule)
                raw = read_padded(source, lattice.read_roi(block), self.plan.border)
        except BadInputError as error:
            if rule != "skip":
                raise
            report.skipped, report.note = True, str(error)
            return None
        if self.plan.config.skip_empty and _is_constant(raw, self._source.fill_value):
            report.empty = True
            return None
        report.filled, report.note = source.filled, source.note
        return raw

    def _reading_for(self, block: Roi) -> AbstractContextManager[GappedArray]:
        """The input as a block reads it."""
        if self._reading is None:
            return nullcontext(self._source)
        return self._chunks.reading(self._reading.needed_after(block))

    def _check_input(self) -> None:
        """Raise FatalError if the input is not stored as it was when the run was planned."""
        if self._source.current_sha256() != self.plan.input.metadata_sha256:
            raise FatalError(
                f"the input {self._source.path} has changed since the run began: its metadata say "
                "that it is stored in another way. Put it back, and run again; or predict the new "
                "one with another --output, or with --overwrite."
            )

    def _predict(
        self, raw: NDArray[np.generic], block: Roi, lattice: Lattice, report: BlockReport
    ) -> deque[list[Write]]:
        """Predict a block and start writing its rows; returns the writes in flight, by row."""
        writes: deque[list[Write]] = deque()
        read_roi = lattice.read_roi(block)
        # If a write fails, `closing` releases the memory of the unfinished prediction at once.
        with closing(self.predictor.predict(raw, read_roi, block, lattice)) as rows:
            for row in rows:
                begin = tuple(row.roi.begin - self.plan.output.roi.begin)
                with stage("writing"):
                    writes.append(
                        [
                            target.start_write(begin, part.data)
                            for target, part in zip(self._targets, row.parts, strict=True)
                        ]
                    )
                if len(writes) > WRITES_IN_FLIGHT:
                    _await(writes.popleft())
                report.count(row)
        return writes

    def _log_shrinking(self, lattice: Lattice) -> None:
        before, after = lattice.tile_shape, self.predictor.lattice.tile_shape
        _log.warning("out of memory: tiles are %s instead of %s input voxels", after, before)
