"""What a run writes: files and bytes of the output and of its levels, and whether there is room."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
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

Numbers = NDArray[np.int64]

# More files than this burden a file system (and a directory listing, a copy, a deletion), ...
MANY_FILES = 1_000_000
# ... and so do smaller ones than this (bytes before compression), if they are not few.
SMALL_FILE, FEW_FILES = 100_000, 10_000


@dataclass(frozen=True)
class Writing:
    """What is written: `files` (chunks or shards) and `bytes` before compression, with `levels`."""

    files: int
    bytes: int
    levels: tuple[Level, ...]
    disk: Disk | None


def writing_of(plan: Plan, computed: NDArray[np.bool_] | None) -> Writing:
    """What is written for all blocks, or for those that are `computed` on their grid."""
    lengths = [_lengths(plan, axis) for axis in range(len(plan.block_shape))]
    sizes = zip(lengths, plan.output.write_shape, strict=True)
    files = len(plan.output.arrays) * _total(computed, [-(-along // size) for along, size in sizes])
    # Of a level, a block's files are those of others as well: about its share is written.
    share = 1.0 if computed is None else int(computed.sum()) / plan.num_blocks
    levels = tuple(_levels(plan, share)) if plan.config.pyramid else ()
    size = _total(computed, lengths) * plan.output.voxel_bytes
    return Writing(
        files=files + sum(level.files for level in levels),
        bytes=size + sum(level.bytes for level in levels),
        levels=levels,
        disk=_disk(plan.output.path),
    )


def _lengths(plan: Plan, axis: int) -> Numbers:
    """The lengths of blocks along an axis, in output voxels: the last one may be cropped."""
    lengths = np.full(plan.blocks_per_axis[axis], plan.block_shape[axis], np.int64)
    begin, end = plan.block_range(axis, len(lengths) - 1)
    lengths[-1] = end - begin
    return lengths


def _total(computed: NDArray[np.bool_] | None, along: Sequence[Numbers]) -> int:
    """The sum, over blocks, of products of one number per axis."""
    if computed is None:
        return prod(int(numbers.sum()) for numbers in along)
    return int(reduce(np.matmul, reversed(along), computed.astype(np.int64)))


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
