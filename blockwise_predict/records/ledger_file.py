"""What a ledger's file holds: one record per block, of the dtype that its header names."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from blockwise_predict.records.events import MAX_TIME


@dataclass(frozen=True)
class Work:
    """The attempt after which a block's state was recorded.

    worker: the worker's number; -1 if unknown.
    ended: when the scheduler got the worker's report, in seconds since 1970; 0 if unknown.
    took: seconds from handing the block out to the report.
    read, compute, write: the seconds of these steps; the rest of `took` was spent waiting.
    """

    worker: int = -1
    ended: float = 0.0
    took: float = 0.0
    read: float = 0.0
    compute: float = 0.0
    write: float = 0.0


# Types of the fields of Work in a record; ledgers of earlier versions have none of them.
WORK_FIELDS = [("worker", "<i4"), ("ended", "<f8")]
WORK_FIELDS += [(name, "<f4") for name in ("took", "read", "compute", "write")]
# The counts of a run with several arrays have one number for each of them.
_COUNTS = r"'<u8'(?:, \((?P<{}>[1-9]\d{{0,3}}),\))?"
_HEADER = re.compile(
    rf"\{{'descr': \[\('clipped', {_COUNTS.format('clipped')}\), "
    rf"\('nonfinite', {_COUNTS.format('nonfinite')}\), "
    rf"(?P<work>{re.escape(', '.join(map(repr, WORK_FIELDS)) + ', ')})?\('state', '\|u1'\)\], "
    r"'fortran_order': False, 'shape': \((?P<grid>[\d, ]{0,100})\), \}\s*"
)


def record_dtype(arrays: int = 1, *, has_work: bool = True) -> np.dtype[np.void]:
    """A block's record in a run whose output has a number of arrays; without the fields of Work in
    ledgers of earlier versions."""
    count = ("<u8",) if arrays == 1 else ("<u8", (arrays,))
    work = WORK_FIELDS if has_work else []
    # The state comes last, since it must not be on disk before the others.
    return np.dtype([("clipped", *count), ("nonfinite", *count), *work, ("state", "u1")])


def with_work(records: NDArray[np.void]) -> NDArray[np.void]:
    """A copy of records, with the fields of Work also where an earlier version wrote none.

    Times that cannot be, as a damaged file may hold them, count as not recorded.
    """
    whole = np.zeros(records.shape, record_dtype(prod(records.dtype["clipped"].shape)))
    for name in records.dtype.names or ():
        whole[name] = records[name]
    # Comparisons with NaN are false.
    whole["ended"][~((whole["ended"] >= 0) & (whole["ended"] < MAX_TIME))] = 0
    for name in ("took", "read", "compute", "write"):
        # So that no block began before 1970.
        whole[name][~((whole[name] >= 0) & (whole[name] <= whole["ended"]))] = 0
    return whole


def mapped_records(descriptor: int) -> np.memmap[tuple[int, ...], np.dtype[np.void]]:
    """The records in a file. Raises ValueError if the file does not have our ledger's format."""
    with open(descriptor, "rb", closefd=False) as handle:
        handle.seek(0)
        if np.lib.format.read_magic(handle) != (1, 0):
            raise ValueError("another version of numpy's format")
        header = handle.read(int.from_bytes(handle.read(2), "little"))
        # Not parsed by numpy, which would hand text that somebody else may have written to Python's
        # parser.
        found = _HEADER.fullmatch(header.decode("latin1"))
        if found is None:
            raise ValueError("its header is not a ledger's")
        if found["clipped"] != found["nonfinite"]:
            raise ValueError("its header is not a ledger's")
        arrays = int(found["clipped"] or 1)
        dtype = record_dtype(arrays, has_work=found["work"] is not None)
        shape = tuple(int(length) for length in found["grid"].split(",") if length.strip())
        size = os.fstat(descriptor).st_size - handle.tell()
        if prod(shape) * dtype.itemsize != size:
            raise ValueError(f"{size} bytes do not hold the records of {shape} blocks")
        return np.memmap(handle, dtype, "r", handle.tell(), shape)
