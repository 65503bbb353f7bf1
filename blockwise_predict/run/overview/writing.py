"""What a run writes: files and bytes of the output and of its levels, and whether there is room."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from math import ceil, prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blockwise_predict.config.quantities import format_bytes
from blockwise_predict.io.downsampled import level_write_shape
from blockwise_predict.plan.model import Plan
from blockwise_predict.run.overview.document import Disk, Level
from blockwise_predict.run.pyramid.scheme import Base, plan_levels

# More files than this burden a file system (and a directory listing, a copy, a deletion), ...
MANY_FILES = 1_000_000
# ... and so do smaller ones than this (bytes before compression), if they are not few.
SMALL_FILE, FEW_FILES = 100_000, 10_000


Along = Callable[[Plan, int, int, int], int]
"""A number for a range of output voxels along an axis: (plan, axis, begin, end)."""


@dataclass(frozen=True)
class Writing:
    """What is written: `files` (chunks or shards) and `bytes` before compression, with `levels`."""

    files: int
    bytes: int
    levels: tuple[Level, ...]
    disk: Disk | None


def writing_of(plan: Plan, computed: NDArray[np.bool_] | None) -> Writing:
    """What is written for all blocks, or for those that are `computed` on their grid."""
    arrays, blocks = len(plan.output.arrays), plan.num_blocks
    files = arrays * _block_sums(plan, computed, _files_along)
    voxels = _block_sums(plan, computed, lambda _plan, _axis, begin, end: end - begin)
    # Of a level, a block's files are those of others as well: about its share is written.
    share = 1.0 if computed is None else int(computed.sum()) / blocks
    levels = tuple(_levels(plan, share)) if plan.config.pyramid else ()
    return Writing(
        files=files + sum(level.files for level in levels),
        bytes=voxels * plan.output.voxel_bytes + sum(level.bytes for level in levels),
        levels=levels,
        disk=_disk(plan.output.path),
    )


def _files_along(plan: Plan, axis: int, begin: int, end: int) -> int:
    """Number of files that a block's range along an axis extends over."""
    return ceil((end - begin) / plan.output.write_shape[axis])


def _block_sums(plan: Plan, computed: NDArray[np.bool_] | None, number: Along) -> int:
    """The sum over blocks of products of one `number` per axis."""
    along = [
        np.array([number(plan, axis, *plan.block_range(axis, place)) for place in range(count)])
        for axis, count in enumerate(plan.blocks_per_axis)
    ]
    if computed is None:
        return prod(int(numbers.sum()) for numbers in along)
    return int(reduce(lambda sums, numbers: sums @ numbers, reversed(along), computed.astype(int)))


def _levels(plan: Plan, share: float) -> Iterator[Level]:
    output, grid = plan.output, plan.output_grid
    base = Base(output.shape, grid.voxel_size, output.chunk_shape, frames=int(grid.has_time))
    for number, level in enumerate(plan_levels(base), 1):
        written = level_write_shape(output.write_shape, output.chunk_shape, level.shape)
        files = prod(ceil(n / w) for n, w in zip(level.shape, written, strict=True))
        size = prod(level.shape) * output.voxel_bytes
        yield Level(
            number=number,
            shape_voxels=level.shape,
            files=ceil(files * share) * len(output.arrays),
            bytes=ceil(size * share),
        )


def _disk(output: str) -> Disk | None:
    """The file system of an output's nearest folder that exists; None for an object store."""
    if "://" in output:
        return None
    folder = next(p for p in Path(output).absolute().parents if p.exists())
    status = os.statvfs(folder)
    return Disk(
        path=str(folder),
        free_bytes=status.f_bavail * status.f_frsize,
        free_files=status.f_favail if status.f_files else None,
    )


def writing_warnings(plan: Plan, writing: Writing, *, begun: bool) -> Iterator[str]:
    """Warn of an output that the disk cannot hold, and of too many or too small files.

    Of a run that has `begun`, an unknown part is on the disk already: its room is not compared.
    """
    disk = None if begun else writing.disk
    if disk is not None and writing.bytes > disk.free_bytes:
        yield (
            f"the output takes up to {format_bytes(writing.bytes)} before compression, and "
            f"{format_bytes(disk.free_bytes)} are free at {disk.path} (quotas are not looked at). "
            "Write to another disk, or store fewer bytes: --output-dtype uint8, --channels, a "
            "smaller --roi."
        )
    if disk is not None and disk.free_files is not None and writing.files > disk.free_files:
        yield (
            f"the output is up to {writing.files:,} files, and the file system at {disk.path} has "
            f"room for {disk.free_files:,} more. {_fewer_files(plan)}"
        )
        return
    mean = writing.bytes / max(1, writing.files)
    if writing.files > MANY_FILES or (writing.files > FEW_FILES and mean < SMALL_FILE):
        yield (
            f"the output is {writing.files:,} files of {format_bytes(mean)} on average before "
            "compression, which are slow to write, list, copy and delete on many file systems. "
            f"{_fewer_files(plan)}"
        )


def _fewer_files(plan: Plan) -> str:
    """What to do about too many files."""
    if plan.output.format == "zarr3":
        return "Store more chunks in each file: --shard-size 1GB."
    return (
        "Store larger chunks (--chunk-shape), or many chunks in each file: --format zarr3 "
        "--shard-size 1GB."
    )
