"""Compares shards with plain chunks: files, writing and reading.

    python benchmarks/shards.py [folder]

A block of 256 x 512 x 512 voxels is written as the engine hands it out, in rows of chunks of 64.
Making the rows counts as well, and is the same for all. All ways are timed in turn, several times;
a table of medians goes to benchmarks/results/shards.md. Files are in the page cache when they are
read, so times of reading are those of requests and decoding, not of a disk.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import tensorstore as ts
import zarr
from numpy.typing import NDArray

from blockwise_predict.geometry.grid import exact_lengths
from blockwise_predict.io import OutputArray, OutputSpec, create_output, open_output

RESULTS = Path(__file__).parent / "results"
CHUNK = (64, 64, 64)
SHAPE = (256, 512, 512)
ROW, BLOCK = (64, 512, 512), SHAPE
VOXEL = exact_lengths((8, 8, 8))
REPEATS, READS = 3, 6
MIB = 2**20

Write = Callable[[OutputArray], None]


def rows() -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Begin and values of each row: smooth, with noise in the last bits, as predictions are."""
    rng = np.random.default_rng(0)
    y, x = np.ogrid[: SHAPE[1], : SHAPE[2]]
    plane = 120 + 100 * np.sin(x / 20) * np.sin(y / 31)
    noise = rng.integers(0, 4, (1, *ROW), np.uint8)
    smooth = plane.astype(np.uint8)
    for begin in range(0, SHAPE[0], ROW[0]):
        yield begin, noise + smooth


def by_rows(output: OutputArray) -> None:
    """As a worker writes: a row is written while the next one is computed."""
    write = None
    for begin, row in rows():
        if write is not None:
            write.result()
        write = output.start_write((begin, 0, 0), row)
    assert write is not None
    write.result()


def collected(output: OutputArray) -> None:
    """As a worker writes shards of several rows: the engine collects these first."""
    block = np.empty((1, *BLOCK), np.uint8)
    for begin, row in rows():
        block[:, begin : begin + ROW[0]] = row
    output.write((0, 0, 0), block)


def store_of(output: OutputArray) -> Any:
    """The array for tensorstore's own ways of writing."""
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{output.path}/"}}
    return ts.open(spec, open=True).result()


def parts_of_a_shard(output: OutputArray) -> None:
    """Rows written into the same shards: tensorstore reads and writes all of a shard each time."""
    store = store_of(output)
    for begin, row in rows():
        store[:, begin : begin + ROW[0]].write(row).result()


def transaction(output: OutputArray) -> None:
    """Rows written in one transaction of tensorstore."""
    with ts.Transaction() as every:
        store = store_of(output).with_transaction(every)
        for begin, row in rows():
            store[:, begin : begin + ROW[0]].write(row).result()


def zarr_python(output: OutputArray) -> None:
    """Rows written by zarr-python."""
    array = zarr.open_array(output.path, mode="r+")
    for begin, row in rows():
        array[:, begin : begin + ROW[0]] = row


@dataclass
class Way:
    """A way to write, and what was measured of it."""

    name: str
    shards: tuple[int, ...] | None
    write: Write
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    cube: list[float] = field(default_factory=list)
    slice: list[float] = field(default_factory=list)
    files: int = 0
    bytes: int = 0

    def measure(self, folder: Path) -> None:
        """Write the block once, and read parts of it."""
        path = folder / "out.zarr" / "prediction"
        shutil.rmtree(folder / "out.zarr", ignore_errors=True)
        output = create_output(spec(path, self.shards))
        wall, cpu = time.perf_counter(), time.process_time()
        self.write(output)
        self.wall.append(time.perf_counter() - wall)
        self.cpu.append(time.process_time() - cpu)
        chunks = [file for file in (path / "c").rglob("*") if file.is_file()]
        self.files, self.bytes = len(chunks), sum(file.stat().st_size for file in chunks)
        for number in range(READS):
            z, y = 64 * (number % 4), 64 * (number % 8)
            self.cube.append(read_seconds(path, (z, y, y), (z + 64, y + 64, y + 64)))
            self.slice.append(read_seconds(path, (z + 5, 0, 0), (z + 6, *SHAPE[1:])))

    def row(self) -> str:
        """Its row of the table."""
        cells = [
            str(self.files),
            f"{self.bytes / self.files / MIB:.2f}",
            f"{np.prod(SHAPE) / MIB / median(self.wall):.0f}",
            f"{median(self.cpu):.2f}",
            f"{median(self.cube) * 1e3:.1f}",
            f"{median(self.slice) * 1e3:.0f}",
        ]
        return f"| {self.name} | {' | '.join(cells)} |"


def spec(path: Path, shards: tuple[int, ...] | None) -> OutputSpec:
    """An output of one channel of uint8."""
    return OutputSpec(
        path=str(path),
        format="zarr3",
        shape=SHAPE,
        channels=1,
        dtype="uint8",
        chunk_shape=CHUNK,
        shard_shape=shards,
        voxel_size=VOXEL,
        offset=exact_lengths((0, 0, 0)),
        input_voxel_size=VOXEL,
        axis_names=("z", "y", "x"),
        channel_names=("a",),
    )


def read_seconds(path: Path, begin: tuple[int, ...], end: tuple[int, ...]) -> float:
    """Seconds to read a box with nothing cached, the array being open."""
    output = open_output(path)
    began = time.perf_counter()
    output.read(begin, end)
    return time.perf_counter() - began


def ways() -> list[Way]:
    """What is compared."""
    return [
        Way("plain chunks", None, by_rows),
        Way("shards of a row (default)", ROW, by_rows),
        Way("shards of a quarter of a row", (64, 256, 256), by_rows),
        Way("shards of a block, rows collected (--shard-size)", BLOCK, collected),
        Way("shards of a block, a transaction for its rows", BLOCK, transaction),
        Way("shards of a block, row by row", BLOCK, parts_of_a_shard),
        Way("zarr-python, plain chunks", None, zarr_python),
        Way("zarr-python, shards of a row", ROW, zarr_python),
        Way("zarr-python, shards of a block, row by row", BLOCK, zarr_python),
    ]


def main(folder: str | None) -> None:
    """Measure, print a table, and write it to benchmarks/results/shards.md."""
    found = ways()
    with TemporaryDirectory(dir=folder) as temporary:
        by = Path(temporary)
        # The first of everything is slower.
        ways()[0].measure(by)
        for _ in range(REPEATS):
            for way in found:
                way.measure(by)
    versions = ", ".join(f"{name} {version(name)}" for name in ("tensorstore", "zarr", "numpy"))
    lines = [
        "# Shards",
        "",
        f"`python benchmarks/shards.py`, {date.today()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, {versions}. A block of "
        f"{' x '.join(map(str, SHAPE))} voxels of uint8 ({np.prod(SHAPE) // MIB} MiB; a row of "
        f"chunks: {np.prod(ROW) // MIB} MiB), chunks of 64 x 64 x 64. Medians of {REPEATS} "
        f"rounds and {REPEATS * READS} reads, by tensorstore without a cache. "
        f"Load average {os.getloadavg()[0]:.0f}.",
        "",
        "| | files | MiB per file | written, MiB/s | CPU seconds "
        "| read 64^3, ms | read 1 x 512 x 512, ms |",
        "|---|---|---|---|---|---|---|",
        *(way.row() for way in found),
        "",
    ]
    text = "\n".join(lines)
    print(text)
    (RESULTS / "shards.md").write_text(text)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
