"""The conversion: blocks of whole chunks, read and written by several threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import product
from math import prod
from threading import Lock

import numpy as np

from blockwise_predict.config.version import __version__
from blockwise_predict.errors import ArrayError
from blockwise_predict.geometry.grid import format_lengths
from blockwise_predict.io.conversion.hdf5 import open_hdf5
from blockwise_predict.io.conversion.stack import Stack, parse_axes, reading
from blockwise_predict.io.conversion.tiff import open_tiff
from blockwise_predict.io.create import check_output, create_output
from blockwise_predict.io.foreign import foreign_kind
from blockwise_predict.io.formats import CONVERSION, Format, guess_format, read_node
from blockwise_predict.io.given import Given
from blockwise_predict.io.in_memory import MemoryArray, place_adapted
from blockwise_predict.io.kvstore import Json, name_of, normalize, storage_errors
from blockwise_predict.io.output import OutputArray, open_output, update_attributes
from blockwise_predict.io.spec import OutputSpec
from blockwise_predict.io.statement import SPACE
from blockwise_predict.io.units import json_numbers

# Of the voxels that all threads hold at one time, chunks that are being decoded included.
MEMORY_BYTES = 2 << 30
_MAX_THREADS = 32
# Edge of a chunk (voxels), by the number of spatial axes, as of predictions.
_CHUNK_EDGE = {2: 512, 3: 64}
# What zarr-python decodes at the same time for one read.
_DECODED_AT_ONCE = 10

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Conversion:
    """What is to be converted, and whither; made by `plan_conversion`, which writes nothing.

    `begun` says that the output exists, made by the same conversion; `finished`, that it is whole.
    """

    stack: Stack
    source: MemoryArray
    output: str
    format: Format
    record: Json
    begun: bool
    finished: bool


def plan_conversion(
    path: str, output: str, given: Given, *, axes: str | None = None, overwrite: bool = False
) -> Conversion:
    """Open what is at `path`, and see what is at `output`.

    Raises ArrayError if the input cannot be read or placed, or if the output cannot be created, or
    is there already and another one's.
    """
    stack = _open(path, parse_axes(axes) if axes else None)
    _check_lengths(stack, given)
    source = place_adapted(stack.array, given, stack.array.statements, stack.looked_for)
    location = normalize(output)
    wanted = guess_format(location) or "zarr3"
    check_output(location, wanted, source.dtype.name)
    record = {
        "source": source.path,
        "files_sha256": stack.fingerprint(),
        "axes": list(source.storage.axes.names),
        "voxel_size": json_numbers(source.voxel_size),
        "offset": json_numbers(source.offset),
        "version": __version__,
    }
    begun = finished = False
    node = read_node(location)
    old = node.attributes.get(CONVERSION) if node is not None and node.is_array else None
    if isinstance(old, dict) and not overwrite:
        if changed := [key for key in record if key != "version" and old.get(key) != record[key]]:
            raise ArrayError(
                f"{location} is converted from other data: {', '.join(changed)} differ. Pass "
                "--overwrite to convert anew, or choose another name."
            )
        begun, finished = True, old.get("complete") is True
    return Conversion(stack, source, location, wanted, record, begun, finished)


def _check_lengths(stack: Stack, given: Given) -> None:
    """Raise ArrayError unless the user gives a voxel size for each axis that the file names."""
    axes = next((s.axes for s in stack.array.statements if s.axes is not None), None)
    if axes is None or given.voxel_size is None:
        return
    names = [axes.names[index] for index in axes.of_kind(SPACE)]
    if len(given.voxel_size) not in (len(names), len(names) + axes.has_time):
        sizes = zip(axes.names, stack.array.shape, strict=True)
        raise ArrayError(
            f"{given.names[0]} {format_lengths(given.voxel_size)} has {len(given.voxel_size)} "
            f"values; {stack.array.name} has the axes "
            f"{', '.join(f'{name} {size}' for name, size in sizes)}. Give one for each of "
            f"{', '.join(names)}, or name the axes by --axes."
        )


def _open(path: str, axes: Sequence[str] | None) -> Stack:
    if "://" in path:
        raise ArrayError(f"{path}: TIFF and HDF5 files are read from a disk. Download it first.")
    place = os.path.abspath(os.path.expanduser(path))
    kind = foreign_kind(place)
    if kind is None:
        raise ArrayError(
            f"{path} is no TIFF or HDF5 file that exists, and no folder or pattern of TIFF files. "
            "Give stack.tif, a folder, 'folder/*.tif', or file.h5/dataset."
        )
    return open_tiff(place, axes) if kind == "TIFF" else open_hdf5(place, axes)


def convert(
    conversion: Conversion, *, overwrite: bool = False, progress: Progress = lambda *_: None
) -> OutputArray:
    """Write what is not written yet. Until the end the output is marked as incomplete.

    `progress` gets the numbers of finished blocks and of all. Raises ArrayError for what cannot be
    read or written; blocks that are written stay, and the next call goes on from there.
    """
    source = conversion.source
    if conversion.finished:
        return open_output(conversion.output)
    if conversion.begun:
        output = open_output(conversion.output)
    else:
        output = create_output(_spec(conversion), overwrite=overwrite)
    voxel_bytes = source.dtype.itemsize * output.channels
    threads, budget = _share(conversion, output, voxel_bytes)
    shape = block_shape(output.shape, output.chunk_shape, budget // voxel_bytes)
    _copy(conversion, output, list(_blocks(output.shape, shape)), threads, progress)
    update_attributes(conversion.output, {CONVERSION: {**conversion.record, "complete": True}})
    return output


def _spec(conversion: Conversion) -> OutputSpec:
    source, name = conversion.source, name_of(conversion.output)
    frames = (1,) * (source.placement.time_unit is not None)
    edges = (*frames, *(_CHUNK_EDGE[source.dims - len(frames)],) * (source.dims - len(frames)))
    channels = source.channels or 1
    return OutputSpec(
        path=conversion.output,
        format=conversion.format,
        shape=source.shape,
        channels=channels,
        dtype=source.dtype.name,
        chunk_shape=tuple(map(min, edges, source.shape)),
        voxel_size=source.voxel_size,
        offset=source.offset,
        input_voxel_size=source.voxel_size,
        axis_names=source.placement.axis_names,
        channel_names=(name,) if channels == 1 else tuple(map(str, range(channels))),
        attributes={CONVERSION: {**conversion.record, "complete": False}},
        time_unit=source.placement.time_unit,
    )


def _share(conversion: Conversion, output: OutputArray, voxel_bytes: int) -> tuple[int, int]:
    """The number of threads, and the bytes of a block for each, within `MEMORY_BYTES`."""
    least = prod(output.chunk_shape) * voxel_bytes
    decoded = prod(conversion.stack.array.chunk_shape) * conversion.stack.array.dtype.itemsize
    # A block is held as it is read, and in the order in which it is written.
    each = 2 * least + _DECODED_AT_ONCE * decoded
    threads = min(len(os.sched_getaffinity(0)), _MAX_THREADS, MEMORY_BYTES // each)
    threads = max(1, threads)
    return threads, max(least, (MEMORY_BYTES // threads - _DECODED_AT_ONCE * decoded) // 2)


def block_shape(shape: Sequence[int], chunk: Sequence[int], most_voxels: int) -> tuple[int, ...]:
    """Whole chunks, as long as possible along the last axes, which lie together in a file."""
    block = list(chunk)
    for axis in reversed(range(len(shape))):
        others = prod(block) // block[axis]
        chunks = max(1, most_voxels // (others * chunk[axis]))
        block[axis] = min(chunks * chunk[axis], -(-shape[axis] // chunk[axis]) * chunk[axis])
        if block[axis] < shape[axis]:
            break
    return tuple(block)


Box = tuple[tuple[int, ...], tuple[int, ...]]


def _blocks(shape: Sequence[int], block: Sequence[int]) -> Iterator[Box]:
    for begin in product(*map(range, [0] * len(shape), shape, block)):
        ends = zip(begin, block, shape, strict=True)
        yield begin, tuple(min(b + n, size) for b, n, size in ends)


def _copy(
    conversion: Conversion,
    output: OutputArray,
    boxes: list[Box],
    threads: int,
    progress: Progress,
) -> None:
    """Copy the boxes that are not stored; the first error ends it, once begun boxes are done."""
    done, lock = 0, Lock()

    def copy(box: Box) -> None:
        nonlocal done
        begin, end = box
        if not (conversion.begun and output.is_stored(begin, end)):
            with reading(conversion.source.path):
                data = conversion.source.read(begin, end)
            with storage_errors(output.path, "write"):
                output.write(begin, np.ascontiguousarray(data))
        with lock:
            done += 1
            progress(done, len(boxes))

    progress(0, len(boxes))
    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(copy, box) for box in boxes]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            # Also of Ctrl-C: otherwise all the rest would be copied first.
            pool.shutdown(wait=True, cancel_futures=True)
    for future in futures:
        if not future.cancelled():
            future.result()
