"""`predict worker`."""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path

import click

from blockwise_predict.cli.options import run_option


@click.command(short_help="Work on a run; fleets start this command.")
@click.argument("run_dir", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--number", type=int, help="Number of this worker. [default: the next free one]")
@run_option("device", unset="the run's")
@run_option("slots", unset="the run's")
@click.option(
    "--threads", type=click.IntRange(1), help="CPU threads for the network. [default: all cores]"
)
@click.option(
    "--wait",
    type=click.FloatRange(0),
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to look for the scheduler, at the start and when the connection is lost.",
)
@click.option(
    "--grace",
    type=click.FloatRange(0),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to finish blocks after a signal to end, before they are handed back.",
)
@run_option("trust_run_dir")
@run_option("unsafe_load_pickle")
@run_option("factory")
def worker(
    run_dir: Path,
    number: int | None,
    device: str | None,
    slots: int | None,
    threads: int | None,
    wait: float,
    grace: float,
    trust_run_dir: bool,
    unsafe_load_pickle: bool,
    factory: str | None,
) -> None:
    """Work on the run in RUN_DIR until it is done, or until SIGTERM, SIGINT or SIGURG.

    `predict run` starts its own workers. Use this command to add one by hand, on any machine that
    sees RUN_DIR and can reach the scheduler (predict run --listen):

    \b
    predict worker predictions.zarr.predict-run/affs --device cuda:1
    """
    from blockwise_predict.cli.running import finish_process
    from blockwise_predict.records import RunDir
    from blockwise_predict.worker.process import WorkerOptions, run_worker

    # The fleet has this process's output go to a file.
    warnings.simplefilter("default")
    logging.basicConfig(stream=sys.stdout, format="%(asctime)s %(message)s", force=True)
    logging.getLogger("blockwise_predict").setLevel(logging.INFO)
    options = WorkerOptions(
        number, device, slots, threads, wait, grace, unsafe_load_pickle, factory
    )
    run_worker(RunDir(run_dir.absolute(), trusted=trust_run_dir), options)
    finish_process(0)
