"""A block of a downsampled level, from the level below."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from itertools import product
from math import prod
from typing import Any

import numpy as np

from blockwise_predict.engine.compute_queue import Compute
from blockwise_predict.io import OutputArray, open_output
from blockwise_predict.io.downsampled import Method
from blockwise_predict.io.kvstore import storage_errors
from blockwise_predict.plan.pyramid import Box, PyramidPlan
from blockwise_predict.worker.block import BlockReport, stage
from blockwise_predict.worker.downsample import downsample

# Decoded voxels that are read at once for a block; several times that are in memory.
PIECE_BYTES = 32 << 20


class LevelProcessor:
    """Reads, downsamples and writes blocks of a pyramid. Several threads may use this."""

    def __init__(self, plan: PyramidPlan) -> None:
        self._plan = plan
        self._arrays: dict[str, OutputArray] = {}
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """What it does, for logs."""
        return f"levels of {self._plan.levels[0].below}"

    def process_number(self, number: int, _compute: Compute) -> BlockReport:
        """Make the block with a number; returns when it is committed."""
        level, (begin, end) = self._plan.place(number)
        voxels = prod(e - b for b, e in zip(begin, end, strict=True))
        report = BlockReport(begin, voxels, clipped=(0,), nonfinite=(0,))
        started = time.perf_counter()
        with stage("downsampling"):
            below, above = self._open(level.below), self._open(level.path)
            data = compute_block(below, (begin, end), level.factors, level.method)
        report.compute = time.perf_counter() - started
        with stage("writing"), storage_errors(above.path, "write"):
            above.write(begin, data)
        report.write = time.perf_counter() - started - report.compute
        return report

    def _open(self, path: str) -> OutputArray:
        with self._lock:
            if path not in self._arrays:
                self._arrays[path] = open_output(path)
            return self._arrays[path]


def compute_block(
    below: OutputArray, box: Box, factors: Sequence[int], method: Method
) -> np.ndarray[Any, Any]:
    """The voxels of a box of a level [C, *spatial], from the level below.

    Read piece by piece, so that the memory does not depend on how large a block is.
    """
    begin, end = box
    shape = tuple(e - b for b, e in zip(begin, end, strict=True))
    data = np.empty((below.channels, *shape), below.dtype)
    step = _piece_shape(below, shape, factors)
    for offset in product(*(range(0, n, s) for n, s in zip(shape, step, strict=True))):
        stop = [min(o + s, n) for o, s, n in zip(offset, step, shape, strict=True)]
        read_begin = [(b + o) * f for b, o, f in zip(begin, offset, factors, strict=True)]
        ends = zip(begin, stop, factors, below.shape, strict=True)
        read_end = [min((b + s) * f, n) for b, s, f, n in ends]
        with storage_errors(below.path, "read"):
            voxels = below.read(read_begin, read_end)
        window = tuple(slice(o, s) for o, s in zip(offset, stop, strict=True))
        data[(slice(None), *window)] = downsample(voxels, factors, method)
    return data


def _piece_shape(below: OutputArray, shape: Sequence[int], factors: Sequence[int]) -> list[int]:
    """A shape of pieces of a level's block, for each of which at most PIECE_BYTES are read."""
    piece = list(shape)
    voxel_bytes = below.channels * below.dtype.itemsize * prod(factors)
    while prod(piece) * voxel_bytes > PIECE_BYTES and max(piece) > 1:
        longest = piece.index(max(piece))
        piece[longest] = -(-piece[longest] // 2)
    return piece
