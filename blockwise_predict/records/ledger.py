"""The ledger: what has become of each block of a run, one small record per block in one file.

A block's record is written in place, in one system call, once its chunks are committed. A process
that is killed loses nothing that it wrote; a machine that loses power may lose the last seconds,
and then those blocks are done again. There is one writer, the scheduler that holds the run's lock;
where that is not ours (`run.external`), each worker writes the records of the blocks it was given.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple
from enum import IntEnum
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blockwise_predict.errors import RunStateError
from blockwise_predict.records.atomic import sync_folder
from blockwise_predict.records.files import FILE_MODE, open_record
from blockwise_predict.records.ledger_file import (
    WORK_FIELDS,
    Work,
    mapped_records,
    record_dtype,
    with_work,
)


class State(IntEnum):
    """What has become of a block.

    TODO: nothing yet. DONE: predicted and committed. FILLED: like DONE, but with the fill value in
    place of input chunks that could not be read. FAILED: it used up its attempts. SKIPPED: left out
    on purpose, since its input could not be read. MASKED: left out, since the mask has no
    foreground there. EMPTY: left out, since its input is nothing but the fill value.
    OUTSIDE: left out, since none of the ROIs touches it.
    """

    TODO = 0
    DONE = 1
    FAILED = 2
    FILLED = 3
    SKIPPED = 4
    MASKED = 5
    EMPTY = 6
    OUTSIDE = 7


PREDICTED = (State.DONE, State.FILLED)
"""States of blocks whose values are written."""

UNSELECTED = (State.MASKED, State.OUTSIDE)
"""States of blocks that the run's options do not select."""

FINISHED = (*PREDICTED, State.SKIPPED, State.EMPTY, *UNSELECTED)
"""States of blocks that need not be done."""


def outcome(*, skipped: bool, empty: bool, filled: int) -> State:
    """The state of a block that its worker has finished; `filled` is a number of input chunks."""
    if skipped or empty:
        return State.SKIPPED if skipped else State.EMPTY
    return State.FILLED if filled else State.DONE


# Maximum number of records written at a time.
_BATCH = 1 << 20


class LedgerDamagedError(RunStateError):
    """The ledger is missing, or not what this program wrote."""


class Ledger:
    """The records of a grid of blocks, numbered in C order.

    `states` holds the state of each block as u1; callers must not change it. `arrays` is the number
    of arrays that values are counted for.
    """

    def __init__(self, descriptor: int, records: np.memmap[Any, np.dtype[np.void]]) -> None:
        self.states: NDArray[np.uint8] = np.array(records["state"]).reshape(-1)
        self.arrays = prod(records.dtype["clipped"].shape)
        self._dtype = records.dtype
        # Only the memory map knows the offset at which the records begin.
        self._begin = int(records.offset)
        self._descriptor = descriptor

    def close(self) -> None:
        """Flush everything to disk, and close the file."""
        self.sync()
        os.close(self._descriptor)

    def sync(self) -> None:
        """Flush everything to disk."""
        os.fsync(self._descriptor)

    def set(
        self,
        block: int,
        state: State,
        clipped: int | Sequence[int] = 0,
        nonfinite: int | Sequence[int] = 0,
        work: Work | None = None,
    ) -> None:
        """Record what has become of a block, with counts for each array, and by what work.

        Raises OSError if it cannot be written, and ValueError for counts of other arrays.
        """
        record = np.zeros(1, self._dtype)
        record["clipped"], record["nonfinite"], record["state"] = clipped, nonfinite, state
        if work is not None and "worker" in (self._dtype.names or ()):
            record[[name for name, _ in WORK_FIELDS]] = astuple(work)
        place = self._begin + block * self._dtype.itemsize
        os.pwrite(self._descriptor, record.tobytes(), place)
        self.states[block] = state

    def set_states(self, states: NDArray[np.uint8]) -> None:
        """Record new states of all blocks; those that change have no counts of values.

        Raises OSError if they cannot be written.
        """
        changed = states != self.states
        records = mapped_records(self._descriptor).reshape(-1)
        for begin in range(0, len(states), _BATCH):
            part = slice(begin, begin + _BATCH)
            if changed[part].any():
                batch = np.array(records[part])
                batch[changed[part]] = 0
                batch["state"] = states[part]
                place = self._begin + begin * self._dtype.itemsize
                os.pwrite(self._descriptor, batch.tobytes(), place)
        self.states[:] = states

    def count(self, *states: State) -> int:
        """Number of blocks in one of these states."""
        return int(np.isin(self.states, states).sum())

    def blocks(self, *states: State) -> list[int]:
        """The blocks in one of these states."""
        return [int(block) for block in np.flatnonzero(np.isin(self.states, states))]

    def records(self) -> NDArray[np.void]:
        """All records, in the shape of the grid; `ended` is 0 where no work is recorded."""
        return with_work(mapped_records(self._descriptor))

    def totals(self) -> list[tuple[int, int]]:
        """Numbers of clipped values, and of NaN or infinite values, in all predicted blocks, for
        each array."""
        records = mapped_records(self._descriptor)
        predicted = records[np.isin(self.states.reshape(records.shape), PREDICTED)]
        clipped, nonfinite = (
            predicted[name].reshape(-1, self.arrays).sum(0).tolist()
            for name in ("clipped", "nonfinite")
        )
        return list(zip(clipped, nonfinite, strict=True))


def create_ledger(
    file: Path,
    grid: tuple[int, ...],
    records: NDArray[np.void] | None = None,
    *,
    arrays: int = 1,
) -> None:
    """Write a ledger of a grid of blocks with these `records`, or with all blocks TODO.

    `arrays` is the number of arrays of the run's output, unless records are given. The file appears
    completely written, or not at all.
    """
    dtype = record_dtype(arrays) if records is None else records.dtype
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    created = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
    with open(created, "wb") as handle:
        header = {"descr": dtype.descr, "fortran_order": False, "shape": grid}
        np.lib.format.write_array_header_1_0(handle, header)
        for begin in range(0, prod(grid), _BATCH):
            batch = np.zeros(min(_BATCH, prod(grid) - begin), dtype)
            if records is not None:
                batch = records.reshape(-1)[begin : begin + len(batch)]
            handle.write(batch.tobytes())
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(temporary, file)
    sync_folder(file.parent)


def records_of(states: NDArray[np.uint8], arrays: int = 1) -> NDArray[np.void]:
    """Records of blocks whose states alone are known, of a run with a number of arrays."""
    records = np.zeros(states.shape, record_dtype(arrays))
    records["state"] = states
    return records


def open_ledger(
    file: Path, grid: tuple[int, ...], *, arrays: int = 1, trusted: bool = False
) -> Ledger:
    """Open the ledger of a grid, of a run whose output has a number of arrays.

    Raises LedgerDamagedError, which says what is wrong with it, and as `open_record` does.
    """
    try:
        descriptor = open_record(file, os.O_RDWR, trusted=trusted)
    except FileNotFoundError:
        raise LedgerDamagedError(f"{file} is missing.") from None
    try:
        records = _checked(file, descriptor, grid)
        if prod(records.dtype["clipped"].shape) != arrays:
            raise LedgerDamagedError(f"{file} does not count the values of {arrays} arrays.")
        return Ledger(descriptor, records)
    except BaseException:
        os.close(descriptor)
        raise


def read_states(file: Path, grid: tuple[int, ...], *, trusted: bool = False) -> NDArray[np.uint8]:
    """The states of all blocks now, without opening the ledger for writing. Raises as `open_ledger`
    does.
    """
    with _read_only(file, grid, trusted=trusted) as records:
        return np.array(records["state"]).reshape(-1)


def read_records(file: Path, grid: tuple[int, ...], *, trusted: bool = False) -> NDArray[np.void]:
    """All records now, as `Ledger.records`, without opening the ledger for writing. Raises as
    `open_ledger` does.
    """
    with _read_only(file, grid, trusted=trusted) as records:
        return with_work(records)


@contextmanager
def _read_only(file: Path, grid: tuple[int, ...], *, trusted: bool) -> Iterator[NDArray[np.void]]:
    try:
        descriptor = open_record(file, os.O_RDONLY, trusted=trusted)
    except FileNotFoundError:
        raise LedgerDamagedError(f"{file} is missing.") from None
    try:
        yield _checked(file, descriptor, grid)
    finally:
        os.close(descriptor)


def is_ledger(file: Path) -> bool:
    """Whether a file is a ledger of any grid."""
    try:
        descriptor = open_record(file, os.O_RDONLY, trusted=True)
    except (OSError, RunStateError):
        return False
    try:
        return mapped_records(descriptor).size >= 0
    except (ValueError, OSError):
        return False
    finally:
        os.close(descriptor)


def _checked(
    file: Path, descriptor: int, grid: tuple[int, ...]
) -> np.memmap[tuple[int, ...], np.dtype[np.void]]:
    try:
        records = mapped_records(descriptor)
    except (ValueError, OSError) as error:
        raise LedgerDamagedError(f"{file} is damaged ({error}).") from None
    if records.shape != grid:
        raise LedgerDamagedError(f"{file} holds {records.shape} blocks; the run has {grid}.")
    unknown = set(np.unique(records["state"]).tolist()) - set(State)
    if unknown:
        raise LedgerDamagedError(f"{file} is damaged: it holds the states {sorted(unknown)}.")
    return records
