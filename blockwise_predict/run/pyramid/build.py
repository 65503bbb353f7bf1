"""Making the levels of an output, blockwise, in threads.

A block of a level is one of its chunks (or shards), so no two threads write the same file. A chunk
appears only as a whole, so the chunks that are stored are the record of what is done: an
interrupted pyramid goes on from there. A level is listed in the multiscale when it is complete.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice, product
from math import prod
from typing import Any

import numpy as np

from blockwise_predict.geometry.grid import format_sizes
from blockwise_predict.io import OutputArray, open_output
from blockwise_predict.io.downsampled import (
    Level,
    Method,
    check_levels,
    create_level,
    delete_levels,
    level_path,
    levels_of,
    list_level,
    listed_levels,
)
from blockwise_predict.io.kvstore import name_of, storage_errors
from blockwise_predict.run.pyramid.reduce import downsample
from blockwise_predict.run.pyramid.scheme import LevelPlan, plan_levels

MAX_THREADS = 8
# Decoded voxels that a thread reads at once; several times that are in memory.
PIECE_BYTES = 32 << 20

Box = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class Watch:
    """What a pyramid reports to: messages, the blocks done of a level, whether to stop."""

    tell: Callable[[str], None] = lambda _: None
    progress: Callable[[int, int], None] = lambda _done, _total: None
    stopped: Callable[[], bool] = lambda: False


def build_levels(path: str, method: Method, count: int | None, watch: Watch) -> bool:
    """Make the levels of an output that are missing; whether all are complete now.

    `count` levels; by default until one fits into a chunk. Levels made by another method are
    replaced. The output must be complete and stay as it is. Raises ArrayError if levels cannot be
    made there.
    """
    output = open_output(path)
    check_levels(output.path, output.format)
    plans = plan_levels(output, count)
    levels = [
        Level(name_of(output.path), number, method, plan.factors)
        for number, plan in enumerate(plans, 1)
    ]
    found = [level for _, level in levels_of(output.path)]
    if any(old != new for old, new in zip(found, levels, strict=False)):
        watch.tell(f"The levels of {output.path} are replaced: they were made by {found[0].method}")
        delete_levels(output.path)
        found = []
    complete = [level for _, level in listed_levels(output.path)]
    below = output
    for level, plan in zip(levels, plans, strict=True):
        if level in found:
            above = open_output(level_path(output.path, level.number))
        else:
            above = create_level(output, level, shape=plan.shape, voxel_size=plan.voxel_size)
        if level not in complete:
            if not _fill(below, above, level, watch):
                return False
            list_level(output, level, plan.total_factors)
            watch.tell(_description(above, plan))
        below = above
    return True


def _description(level: OutputArray, plan: LevelPlan) -> str:
    shape = " x ".join(map(str, plan.shape))
    return (
        f"Level {level.path}: {shape} voxels of "
        f"{format_sizes(plan.voxel_size, level.axes.time_unit)}."
    )


def _fill(below: OutputArray, above: OutputArray, level: Level, watch: Watch) -> bool:
    """Write the blocks of a level that are not stored; whether all are."""

    def write(box: Box) -> None:
        if not above.is_stored(*box):
            data = compute_block(below, box, level)
            with storage_errors(above.path, "write"):
                above.write(box[0], data)

    return for_each_block(above, write, watch)


def for_each_block(array: OutputArray, do: Callable[[Box], object], watch: Watch) -> bool:
    """Call `do` for the box of each block of an array, in threads; False if stopped before."""
    total = prod(-(-n // edge) for n, edge in zip(array.shape, array.write_shape, strict=True))
    threads = min(MAX_THREADS, os.cpu_count() or 1)
    done = 0
    with ThreadPoolExecutor(threads) as pool:
        # In batches, since every queued block takes memory.
        blocks = blocks_of(array)
        while batch := list(islice(blocks, 4 * threads)):
            if watch.stopped():
                return False
            for _ in pool.map(do, batch):
                done += 1
                watch.progress(done, total)
    return True


def blocks_of(array: OutputArray) -> Iterator[Box]:
    """The begin and end of each block of a level: its chunks or shards, cut at the array's end."""
    ranges = [range(0, n, edge) for n, edge in zip(array.shape, array.write_shape, strict=True)]
    for begin in product(*ranges):
        ends = zip(begin, array.write_shape, array.shape, strict=True)
        yield begin, tuple(min(b + edge, n) for b, edge, n in ends)


def compute_block(below: OutputArray, box: Box, level: Level) -> np.ndarray[Any, Any]:
    """The voxels of a box of a level [C, *spatial], from the level below.

    Read piece by piece, so that the memory does not depend on how large a block is.
    """
    begin, end = box
    shape = tuple(e - b for b, e in zip(begin, end, strict=True))
    data = np.empty((below.channels, *shape), below.dtype)
    step = _piece_shape(below, shape, level.factors)
    for offset in product(*(range(0, n, s) for n, s in zip(shape, step, strict=True))):
        stop = [min(o + s, n) for o, s, n in zip(offset, step, shape, strict=True)]
        read_begin = [(b + o) * f for b, o, f in zip(begin, offset, level.factors, strict=True)]
        ends = zip(begin, stop, level.factors, below.shape, strict=True)
        read_end = [min((b + s) * f, n) for b, s, f, n in ends]
        with storage_errors(below.path, "read"):
            voxels = below.read(read_begin, read_end)
        window = tuple(slice(o, s) for o, s in zip(offset, stop, strict=True))
        data[(slice(None), *window)] = downsample(voxels, level.factors, level.method)
    return data


def _piece_shape(below: OutputArray, shape: Sequence[int], factors: Sequence[int]) -> list[int]:
    """A shape of pieces of a level's block, for each of which at most PIECE_BYTES are read."""
    piece = list(shape)
    voxel_bytes = below.channels * below.dtype.itemsize * prod(factors)
    while prod(piece) * voxel_bytes > PIECE_BYTES and max(piece) > 1:
        longest = piece.index(max(piece))
        piece[longest] = -(-piece[longest] // 2)
    return piece
