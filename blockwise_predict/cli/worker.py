"""`predict worker`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click


@click.command(short_help="Work on a run; what fleets start.")
@click.argument("run_dir", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--number", type=int, help="Number of this worker. [default: the next free one]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--slots", type=int, default=2, show_default=True, help="Blocks side by side.")
@click.option("--threads", type=int, help="CPU threads for the network. [default: all cores]")
@click.option("--solo", default=0, help="Do the first N blocks one at a time.", metavar="N")
def worker(
    run_dir: Path, number: int | None, device: str, slots: int, threads: int | None, solo: int
) -> None:
    """Work on the run in RUN_DIR until it is done; SIGTERM lets the blocks in hand finish.

    `predict run` starts its workers by itself. By hand, on the same machine, this adds one:

    \b
    predict worker predictions.zarr.predict-run/affs --device cuda:1
    """
    # Read by daisy's native part when it is loaded; one thread per core would be one too many.
    os.environ.setdefault("TOKIO_WORKER_THREADS", "1")
    from blockwise_predict.rundir import RunDir
    from blockwise_predict.worker import run_worker

    records = RunDir(run_dir.absolute())
    number = records.next_worker() if number is None else number
    run_worker(records, number, device, slots, threads, solo)
    # Slots that wait for a block wait in native code and cannot be interrupted.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
