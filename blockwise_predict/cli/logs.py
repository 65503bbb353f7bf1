"""`predict logs`."""

from __future__ import annotations

from pathlib import Path

import click

from blockwise_predict.cli.completing import PATH
from blockwise_predict.cli.options import run_option

LINES = 40


@click.command(short_help="Show the logs of a run's workers.")
@click.argument("output", metavar="OUTPUT", type=PATH)
@click.option("--worker", type=int, metavar="N", help="Show the whole log of worker N.")
@click.option("--failed", is_flag=True, help="Show only workers that failed, or whose blocks did.")
@run_option("run_dir")
@run_option("trust_run_dir")
def logs(
    output: str,
    worker: int | None,
    failed: bool,
    run_dir: str | None,
    trust_run_dir: bool,
) -> None:
    """List the workers of the run that wrote OUTPUT, or show their logs.

    Without options: one line per worker, with its times, its host, how it ended and its log. With
    --failed: for every worker that failed, the errors of its blocks and the end of its log.

    \b
    predict logs predictions.zarr/affs
    predict logs predictions.zarr/affs --worker 3
    predict logs predictions.zarr/affs --failed
    """
    from blockwise_predict.records.find import find_run
    from blockwise_predict.records.workerlogs import worker_logs

    records, _ = find_run(output, run_dir, trust_run_dir=trust_run_dir)
    found = worker_logs(records)
    if worker is not None:
        _show_whole(found.of(worker))
    elif failed:
        for one in found.failed:
            click.echo(one.title)
            for error in one.errors:
                click.echo(f"  {error}")
            _show_end(one.log)
        if not found.failed:
            click.echo("No worker has failed.")
    else:
        for one in found.all:
            click.echo(one.title)
        if not found.all:
            click.echo(f"No worker has started yet; logs will be in {records.logs}.")


def _show_whole(log: Path) -> None:
    click.echo(f"==> {log}")
    with open(log, errors="replace") as lines:
        for line in lines:
            click.echo(line, nl=False)


def _show_end(log: Path | None) -> None:
    if log is None:
        return
    click.echo(f"  ==> {log}")
    for line in log.read_text(errors="replace").splitlines()[-LINES:]:
        click.echo(f"  {line}")
