"""`predict run`, from start to exit, beside the bare engine over the same blocks.

    python benchmarks/end_to_end.py

The run reads a volume of `--size` cubed from disk (zarr, real FIB-SEM where there is some, else the
demonstration's phantom), with two slots, and writes uint8 affinities to disk. The bare engine runs
the same passes, in one process without a scheduler: raw values in memory, results thrown away. Both
take turns, and the fastest of some rounds counts, since others may use the machine.
Columns: the whole command; from the first block's begin of computing to the end of the last block;
and the share of the time that the device computed after the first block.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import torch
import zarr

sys.path.insert(0, str(Path(__file__).parent))
from engine import RESULTS, SHARED, machine

from blockwise_predict.engine.border import read_padded
from blockwise_predict.plan.opened import reopen
from blockwise_predict.records import RunDir
from blockwise_predict.worker.setup import make_predictor


def write_volume(path: Path, size: int) -> str:
    """A cube of real grey values, mirrored until it is large enough."""
    raw = np.asarray(zarr.open_array(SHARED / "data/flyem-medulla.zarr/sample1/raw", mode="r"))
    missing = [(0, max(0, size - n)) for n in raw.shape]
    volume = np.pad(raw, missing, mode="reflect")[:size, :size, :size]
    array = zarr.create_array(
        path, name="raw", shape=volume.shape, chunks=(64,) * 3, dtype="uint8", zarr_format=2
    )
    array[...] = volume
    array.attrs.update({"voxel_size": [8, 8, 8], "offset": [0, 0, 0]})
    return f"{path}/raw"


def bare_engine(run_dir: RunDir) -> float:
    """Seconds for the blocks of a finished run, without reading, writing and scheduling."""
    plan, choice = run_dir.plan(), run_dir.precision()
    assert choice is not None
    opened = reopen(plan, torch.device("cpu"))
    predictor = make_predictor(plan, opened, choice.precision)
    lattice = predictor.lattice
    seconds = 0.0
    for block in plan.blocks():
        read = lattice.read_roi(block)
        raw = read_padded(opened.array, read, plan.border)
        begin = time.perf_counter()
        for _ in predictor.predict(raw, read, block, lattice):
            pass
        seconds += time.perf_counter() - begin
    return seconds


def pipeline(run_dir: RunDir) -> tuple[float, float]:
    """Seconds from the first block's computing to the last commit, and the busy share."""
    events = {event["event"]: event for event in run_dir.events.read()}
    first, end = events["first"], events["end"]
    begin = first["time"] - first["write"] - first["compute"]
    return end["time"] - begin, end["busy"]["0"]


@dataclass
class Round:
    """Seconds of one `predict run`, of its pipeline, and of the bare engine right after it."""

    whole: float
    pipeline: float
    busy: float
    bare: float


def measured(folder: Path, source: str) -> tuple[Round, RunDir]:
    """Run once, and the bare engine over the same blocks."""
    run_dir = RunDir(folder / "run")
    options = {
        "--checkpoint": SHARED / "data/dacapo/flyem_affs",
        "--input": source,
        "--output": folder / "out.zarr/affs",
        "--output-dtype": "uint8",
        "--run-dir": folder / "run",
    }
    words = [str(word) for option in options.items() for word in option]
    command = [sys.executable, "-m", "blockwise_predict", "run", *words]
    begin = time.perf_counter()
    subprocess.run(command, check=True)
    whole = time.perf_counter() - begin
    seconds, busy = pipeline(run_dir)
    return Round(whole, seconds, busy, bare_engine(run_dir)), run_dir


@click.command()
@click.option("--size", default=512, show_default=True, help="Edge of the volume in voxels.")
@click.option("--rounds", default=3, show_default=True, help="The fastest of so many counts.")
def main(size: int, rounds: int) -> None:
    """Measure, print a table, and write it to benchmarks/results/end_to_end.md."""
    every = []
    with tempfile.TemporaryDirectory() as name:
        source = write_volume(Path(name) / "raw.zarr", size)
        for number in range(rounds):
            found, run_dir = measured(Path(name) / str(number), source)
            click.echo(found)
            every.append(found)
        plan, choice = run_dir.plan(), run_dir.precision()
    voxels = size**3
    bare = min(each.bare for each in every)
    rows = {
        "bare engine": bare,
        "pipeline of `predict run`": min(each.pipeline for each in every),
        "`predict run`, start to exit": min(each.whole for each in every),
    }
    lines = [
        f"{machine()}; `python benchmarks/end_to_end.py --size {size}`; "
        f"{choice.precision if choice else plan.precision}, {plan.num_blocks} blocks of "
        f"{plan.block_shape}; the fastest of {rounds} rounds",
        "",
        "| | seconds | Mvoxel/s | of the bare engine |",
        "|---|---|---|---|",
        *(
            f"| {name} | {seconds:.1f} | {voxels / seconds / 1e6:.3g} | {bare / seconds:.1%} |"
            for name, seconds in rows.items()
        ),
        "",
        f"The device computed {min(each.busy for each in every):.1%} of the time after the first "
        "block.",
        "",
    ]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "end_to_end.md").write_text("\n".join(lines))
    click.echo("\n".join(lines))


if __name__ == "__main__":
    main()
