"""Compares reading and writing as workers do it with zarr-python, funlib.persistence and dask.

    python benchmarks/arrays.py [folder]

A volume of uint8 in chunks of 64 is read in the boxes of neighbouring blocks with their context,
and written block by block, shards by rows. All read and write the same arrays, in turn, several
times, and what they read is compared. A table of medians goes to benchmarks/results/arrays.md.
Files are in the page cache when they are read, so these are times of requests and decoding, not of
a disk.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from functools import partial
from importlib.metadata import version
from itertools import product
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import dask.array
import funlib.persistence
import numpy as np
import zarr
from funlib.geometry import Coordinate, Roi
from numpy.typing import NDArray

from blockwise_predict.geometry.grid import exact_lengths
from blockwise_predict.io import (
    CheckedInput,
    Format,
    OutputSpec,
    create_output,
    open_input,
    open_output,
)

RESULTS = Path(__file__).parent / "results"
EDGE, CHUNK, VOXEL = 768, 64, 8
# Output of a block, and its context: of a small network, of a typical one, and of COSEM's.
READS = ((64, 28), (192, 92), (384, 182))
WRITTEN = 384
REPEATS = 3
MIB = 2**20

Box = tuple[tuple[int, ...], tuple[int, ...]]
Voxels = NDArray[np.uint8]
Read = Callable[[str], Callable[[Box], Voxels]]
Write = Callable[[str], Callable[[Box, Voxels], None]]


def ours_reads(path: str) -> Callable[[Box], Voxels]:
    """As a worker does: every chunk that it needs must be stored, and readable."""
    array = open_input(path)
    return lambda box: CheckedInput(array, "fail").read(*box)[0].astype(np.uint8, copy=False)


def zarr_reads(path: str) -> Callable[[Box], Voxels]:
    """zarr-python."""
    array = zarr.open_array(path, mode="r")
    return lambda box: np.asarray(array[_index(box)])[0]


def funlib_reads(path: str) -> Callable[[Box], Voxels]:
    """funlib.persistence, by ROI."""
    array = funlib.persistence.open_ds(path)
    return lambda box: np.asarray(array[_roi(box)])[0]


def dask_reads(path: str) -> Callable[[Box], Voxels]:
    """dask.array, with its threads."""
    array = dask.array.from_zarr(path)
    return lambda box: np.asarray(array[_index(box)].compute())[0]


def ours_writes(path: str) -> Callable[[Box, Voxels], None]:
    """As a worker does: a row of chunks is on its way while the next one is handed over."""
    output = open_output(path)

    def write(box: Box, block: Voxels) -> None:
        (begin, *rest), _ = box
        pending = None
        for row in range(0, block.shape[0], CHUNK):
            if pending is not None:
                pending.result()
            pending = output.start_write((begin + row, *rest), block[None, row : row + CHUNK])
        assert pending is not None
        pending.result()

    return write


def zarr_writes(path: str) -> Callable[[Box, Voxels], None]:
    """zarr-python."""
    array = zarr.open_array(path, mode="r+")
    return lambda box, block: array.__setitem__(_index(box), block[None])


def funlib_writes(path: str) -> Callable[[Box, Voxels], None]:
    """funlib.persistence, by ROI."""
    array = funlib.persistence.open_ds(path, mode="r+")
    return lambda box, block: array.__setitem__(_roi(box), block[None])


def dask_writes(path: str) -> Callable[[Box, Voxels], None]:
    """dask.array.store, with its threads: in chunks, or in shards where there are any."""
    array = zarr.open_array(path, mode="r+")
    unit = array.shards or array.chunks

    def write(box: Box, block: Voxels) -> None:
        source = dask.array.from_array(block[None], chunks=unit)
        dask.array.store(source, array, regions=_index(box), lock=False)

    return write


READERS = {
    "blockwise-predict": ours_reads,
    "zarr-python": zarr_reads,
    "funlib.persistence": funlib_reads,
    "dask": dask_reads,
}
WRITERS = {
    "blockwise-predict": ours_writes,
    "zarr-python": zarr_writes,
    "funlib.persistence": funlib_writes,
    "dask": dask_writes,
}


def _index(box: Box) -> tuple[slice, ...]:
    return (slice(None), *(slice(*pair) for pair in zip(*box, strict=True)))


def _roi(box: Box) -> Roi:
    begin, end = (Coordinate(corner) * VOXEL for corner in box)
    return Roi(begin, end - begin)


def volume() -> Voxels:
    """Smooth, with noise in the last bits, as images are."""
    rng = np.random.default_rng(0)
    y, x = np.ogrid[:EDGE, :EDGE]
    plane = 120 + 100 * np.sin(x / 20) * np.sin(y / 31)
    return plane.astype(np.uint8) + rng.integers(0, 16, (EDGE,) * 3, np.uint8)


def make(path: Path, format_: Format, shards: tuple[int, ...] | None = None) -> str:
    """An empty array, as a run makes it."""
    lengths = exact_lengths((VOXEL,) * 3)
    spec = OutputSpec(
        path=str(path),
        format=format_,
        shape=(EDGE,) * 3,
        channels=1,
        dtype="uint8",
        chunk_shape=(CHUNK,) * 3,
        shard_shape=shards,
        voxel_size=lengths,
        offset=exact_lengths((0, 0, 0)),
        input_voxel_size=lengths,
        axis_names=("z", "y", "x"),
        channel_names=("a",),
    )
    return create_output(spec).path


def boxes(edge: int, context: int) -> list[Box]:
    """The boxes that blocks of one column read, at most 12, and each a part of the volume."""
    begins = range(0, EDGE - edge - context + 1, edge)
    corners = list(product(begins, repeat=3))[:12]
    return [(begin, tuple(b + edge + context for b in begin)) for begin in corners]


def seconds(calls: Iterator[Callable[[], object]]) -> tuple[float, float]:
    """Wall and CPU seconds of all calls."""
    wall, cpu = time.perf_counter(), time.process_time()
    for call in calls:
        call()
    return time.perf_counter() - wall, time.process_time() - cpu


def compare_reading(path: str, expected: Voxels, edge: int, context: int) -> list[str]:
    """Rows of the table for one size of blocks."""
    chosen = boxes(edge, context)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in READERS}
    for _ in range(REPEATS):
        for name, open_ in READERS.items():
            read = open_(path)
            np.testing.assert_array_equal(read(chosen[-1]), expected[_index(chosen[-1])[1:]])
            found[name].append(seconds(partial(read, box) for box in chosen))
    size = len(chosen) * (edge + context) ** 3
    what = f"{edge + context}^3 (block of {edge}^3)"
    return _rows(what, size, found)


def compare_writing(folder: Path, data: Voxels, shards: tuple[int, ...] | None) -> list[str]:
    """Rows of the table for one kind of array."""
    corners = list(product(range(0, EDGE, WRITTEN), repeat=3))
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in WRITERS}
    for _ in range(REPEATS):
        for name, open_ in WRITERS.items():
            shutil.rmtree(folder / "out.zarr", ignore_errors=True)
            path = make(folder / "out.zarr" / "a", "zarr3", shards)
            write = open_(path)
            ends = [tuple(edge + WRITTEN for edge in corner) for corner in corners]
            todo = list(zip(corners, ends, strict=True))
            calls = (partial(write, box, data[_index(box)[1:]]) for box in todo)
            found[name].append(seconds(calls))
            read = open_output(path).read((0, 0, 0), (EDGE,) * 3)[0]
            np.testing.assert_array_equal(read, data)
    return _rows(f"{'shards of a row' if shards else 'chunks'}", EDGE**3, found)


def _rows(what: str, size: int, found: dict[str, list[tuple[float, float]]]) -> list[str]:
    ours = median(wall for wall, _ in found["blockwise-predict"])
    rows = []
    for name, measured in found.items():
        wall, cpu = (median(values) for values in zip(*measured, strict=True))
        cells = [what, name, f"{size / MIB / wall:.0f}", f"{wall / ours:.2f}", f"{cpu:.2f}"]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def table(title: str, first: str, rows: Sequence[str]) -> list[str]:
    """A table with its heading."""
    head = f"| {first} | by | MiB/s | time, ours = 1 | CPU seconds |"
    return ["", f"## {title}", "", head, "|---|---|---|---|---|", *rows]


def main(folder: str | None) -> None:
    """Measure, print the tables, and write them to benchmarks/results/arrays.md."""
    data = volume()
    with TemporaryDirectory(dir=folder) as temporary:
        by = Path(temporary)
        lines: list[str] = []
        inputs: dict[str, tuple[Format, tuple[int, ...] | None]] = {
            "zarr 2": ("zarr2", None),
            "zarr 3, shards of a row": ("zarr3", _shards()),
        }
        for title, (format_, shards) in inputs.items():
            path = make(by / f"{format_}.zarr" / "raw", format_, shards)
            open_output(path).write((0, 0, 0), data[None])
            rows = [row for size in READS for row in compare_reading(path, data, *size)]
            lines += table(f"Reading {title}", "box", rows)
        rows = [row for shards in (None, _shards()) for row in compare_writing(by, data, shards)]
        lines += table(f"Writing zarr 3, in blocks of {WRITTEN}^3", "array of", rows)
    print("\n".join(lines))
    (RESULTS / "arrays.md").write_text("\n".join([*heading(), *lines, ""]))


def _shards() -> tuple[int, ...]:
    return (CHUNK, WRITTEN, WRITTEN)


def heading() -> list[str]:
    """What was measured, where and when."""
    names = ("tensorstore", "zarr", "funlib.persistence", "dask", "numpy")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    return [
        "# Reading and writing",
        "",
        f"`python benchmarks/arrays.py`, {date.today()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, {versions}. {EDGE}^3 voxels of uint8 in chunks of "
        f"{CHUNK}^3 (blosc, zstd). Medians of {REPEATS} rounds. "
        f"Load average {os.getloadavg()[0]:.0f}.",
    ]


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
