"""`predict worker`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(short_help="Work on a run; what fleets start.")
@click.argument("run_dir", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--number", type=int, help="Number of this worker. [default: the next free one]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--slots", type=int, default=2, show_default=True, help="Blocks side by side.")
@click.option("--threads", type=int, help="CPU threads for the network. [default: all cores]")
def worker(
    run_dir: Path,
    number: int | None,
    device: str,
    slots: int,
    threads: int | None,
) -> None:
    """Work on the run in RUN_DIR until it is done; SIGTERM lets the blocks in hand finish.

    `predict run` starts its workers by itself. By hand, on the same machine, this adds one:

    \b
    predict worker predictions.zarr.predict-run/affs --device cuda:1
    """
    from blockwise_predict.cli.running import finish_process
    from blockwise_predict.records import RunDir
    from blockwise_predict.worker import WorkerOptions, run_worker

    options = WorkerOptions(number, device, slots, threads)
    run_worker(RunDir(run_dir.absolute()), options)
    finish_process(0)
