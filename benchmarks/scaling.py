"""Measures the cost of scheduling a million blocks: time, memory, disk space, and resuming.

    python benchmarks/scaling.py

Scheduler, server, ledger, run directory and the workers' connections are real; the worker processes
report every block as done without computing it. The input is an array without stored chunks. One
run does all blocks; a second one resumes at 99 %.
"""

from __future__ import annotations

import multiprocessing
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from multiprocessing.synchronize import Event
from pathlib import Path

import click
import numpy as np
import zarr

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent))
from engine import RESULTS, machine

from blockwise_predict.config.model import RunConfig
from blockwise_predict.plan.make import make_plan
from blockwise_predict.plan.model import Plan
from blockwise_predict.plan.reading import reading_of
from blockwise_predict.records import RunDir
from blockwise_predict.records.ledger import PREDICTED, State, records_of
from blockwise_predict.records.status import Counts
from blockwise_predict.run.stop import StopRequest
from blockwise_predict.run.supervision import Job, run_blocks
from blockwise_predict.scheduling.blocks import DaisyBlockSource
from blockwise_predict.scheduling.client import Client, ClientOptions
from blockwise_predict.scheduling.members import Changes, Membership
from blockwise_predict.scheduling.transport.messages import Done

BLOCK = 16
WEIGHTS = """
import torch, yaml
from tests.support.networks import save_network
from pathlib import Path
save_network(Path({folder!r}))
"""


def idle_worker(begin: Event, folder: str, number: int, slots: int) -> None:
    """A worker that reports every block as done immediately."""
    begin.wait()
    run_dir = RunDir(Path(folder))
    terms = ClientOptions(run_dir.run_id(), number, slots)
    link = Client(run_dir.address, terms, threading.Event(), lambda *_: None)

    def slot(index: int) -> None:
        while (block := link.next(index)) is not None:
            link.report(
                index, Done(block=block, read=0, compute=0, write=0, clipped=[0], nonfinite=[0])
            )

    threads = [threading.Thread(target=slot, args=(index,)) for index in range(slots)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    link.close()


class IdleFleet:
    """`size` idle workers, each in a process of its own."""

    def __init__(self, run_dir: RunDir, size: int, slots: int) -> None:
        self.size = self.first_free = size
        self.listens_on = "127.0.0.1"
        # Forked here, before there are any threads: a process forked while another thread uses
        # OpenSSL may inherit a lock that is never released.
        context = multiprocessing.get_context("fork")
        self._begin = context.Event()
        self._processes = [
            context.Process(
                target=idle_worker, args=(self._begin, str(run_dir), number, slots), daemon=True
            )
            for number in range(size)
        ]
        for process in self._processes:
            process.start()

    def start(self, stop_now: Callable[[], bool]) -> None:  # noqa: ARG002
        self._begin.set()

    def check(self, membership: Membership) -> Changes:  # noqa: ARG002
        return Changes()

    def scale(self, size: int, membership: Membership) -> Changes:
        raise NotImplementedError

    def end_workers(self, numbers: Collection[int], membership: Membership) -> None:  # noqa: ARG002
        for number in numbers:
            self._processes[number].kill()

    def drain(self, membership: Membership) -> None:
        pass

    def kill(self, stop_now: Callable[[], bool]) -> None:  # noqa: ARG002
        for process in self._processes:
            process.kill()

    def abandon(self) -> None:
        self.kill(lambda: True)

    def finish(
        self,
        membership: Callable[[], Membership],  # noqa: ARG002
        stop_now: Callable[[], bool],  # noqa: ARG002
    ) -> None:
        for process in self._processes:
            process.join(10)


@dataclass
class Measured:
    """Seconds of a run and until its first block, and the process's peak memory in bytes."""

    blocks: int
    seconds: float
    first: float
    memory: int


def make(folder: Path, edge: int) -> tuple[Plan, RunDir]:
    """Plan and record a run of `edge` cubed blocks."""
    subprocess.run([sys.executable, "-c", WEIGHTS.format(folder=str(folder))], check=True)
    zarr.create_array(
        folder / "raw.zarr",
        name="raw",
        shape=(edge * BLOCK,) * 3,
        chunks=(64,) * 3,
        dtype="uint8",
        attributes={"voxel_size": [8, 8, 8], "offset": [0, 0, 0]},
    )
    shape = ",".join([str(BLOCK)] * 3)
    config = RunConfig.model_validate(
        {
            "checkpoint": str(folder / "weights.pt"),
            "architecture": str(folder / "architecture.yaml"),
            "input": str(folder / "raw.zarr/raw"),
            "output": str(folder / "out.zarr/out"),
            "block_shape": shape,
            "chunk_shape": shape,
            "bad_input": "fill-missing",
            "device": "cpu",
            "precision": "float32",
        }
    )
    plan = make_plan(config).plan
    run_dir = RunDir(folder / "run")
    run_dir.record(plan, "predict run")
    return plan, run_dir


def measured(plan: Plan, run_dir: RunDir, workers: int, slots: int) -> Measured:
    """Run the remaining blocks with idle workers."""
    begin = time.perf_counter()
    first: list[float] = []

    def progress(counts: Counts) -> None:
        if not first and counts.done > before:
            first.append(time.perf_counter() - begin)

    fleet = IdleFleet(run_dir, workers, slots)
    with closing(run_dir.ledger(plan)) as ledger:
        before = ledger.count(*PREDICTED)
        nothing: Callable[..., None] = lambda *_: None  # noqa: E731
        skip_mask = np.isin(ledger.states, PREDICTED).astype(np.uint8)
        source = partial(DaisyBlockSource, reading_of(plan).order, skip_mask, 1)
        run_blocks(
            Job(plan.config, source, plan.where),
            run_dir,
            ledger,
            fleet=fleet,
            show_workers=lambda _: None,
            progress=progress,
            warn=nothing,
            stop=StopRequest(),
            check_lock=nothing,
        )
        assert ledger.count(*PREDICTED) == plan.num_blocks
    seconds = time.perf_counter() - begin
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Measured(plan.num_blocks - before, seconds, first[0] if first else seconds, memory)


def size_of(folder: Path) -> tuple[int, int]:
    """Total bytes and number of the files in a folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in files), len(files)


@click.command()
@click.option("--edge", default=100, show_default=True, help="Blocks along each of three axes.")
@click.option("--workers", default=16, show_default=True)
@click.option("--slots", default=2, show_default=True)
def main(edge: int, workers: int, slots: int) -> None:
    """Measure, print a table, and write it to benchmarks/results/scaling.md."""
    with tempfile.TemporaryDirectory() as name:
        plan, run_dir = make(Path(name), edge)
        base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        whole = measured(plan, run_dir, workers, slots)
        states = np.full(plan.num_blocks, State.DONE, np.uint8)
        states[-plan.num_blocks // 100 :] = State.TODO
        run_dir.replace_ledger(plan, records_of(states))
        resumed = measured(plan, run_dir, workers, slots)
        size, files = size_of(run_dir.path)
    rows = [
        ("blocks", f"{whole.blocks:,}"),
        ("workers x slots", f"{workers} x {slots}"),
        ("all blocks", f"{whole.seconds:.0f} s"),
        ("scheduling, per block", f"{whole.seconds / whole.blocks * 1e6:.0f} us"),
        ("blocks per second", f"{whole.blocks / whole.seconds:,.0f}"),
        ("peak memory of the scheduler", f"{max(whole.memory, resumed.memory) / 2**20:.0f} MiB"),
        ("of which before the first block", f"{base / 2**20:.0f} MiB"),
        ("resume at 99 %: to the first block done", f"{resumed.first:.1f} s"),
        ("resume at 99 %: to the end", f"{resumed.seconds:.1f} s"),
        ("run directory", f"{size / 2**20:.1f} MiB in {files} files"),
    ]
    table = "\n".join(["| | |", "|---|---|", *(f"| {label} | {value} |" for label, value in rows)])
    text = f"# Scheduling\n\n{machine()}\n\n`python {' '.join(sys.argv)}`\n\n{table}\n"
    click.echo(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "scaling.md").write_text(text)


if __name__ == "__main__":
    main()
