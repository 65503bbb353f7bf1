"""`predict retry`."""

from __future__ import annotations

import shlex
import sys

import click

from blockwise_predict.cli.verify import RUN_DIR


@click.command(short_help="Try the failed blocks of a run again, and only those.")
@click.argument("output", metavar="OUTPUT")
@RUN_DIR
def retry(output: str, run_dir: str | None) -> None:
    """Try those blocks of OUTPUT again that used up their attempts, with the options of its run.

    `predict run` with the same command does so, too, and goes on with all other blocks.

    \b
    predict retry predictions.zarr/affs
    """
    from blockwise_predict.cli.running import finish_process, run_with_display
    from blockwise_predict.records.find import find_run

    _, plan = find_run(output, run_dir)
    command = shlex.join(["predict", *sys.argv[1:]])
    finish_process(run_with_display(plan.config, command, only_failed=True))
