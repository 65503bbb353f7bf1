"""`predict plan`."""

from __future__ import annotations

import click

from blockwise_predict.cli.options import GroupedCommand, run_options
from blockwise_predict.cli.tables import print_rows
from blockwise_predict.config.model import RunConfig


@click.command(cls=GroupedCommand, short_help="Show what a run would do and cost; writes nothing.")
@click.option(
    "--probe", is_flag=True, help="Predict a part of one block, and tell the speed and the hours."
)
@run_options
def plan(config: RunConfig, probe: bool) -> None:
    """Show what `predict run` with the same options would do and cost; writes nothing.

    \b
    predict plan config.yaml --probe
    predict plan --checkpoint dacapo/my_run --input volume.zarr/raw --output out.zarr/affs
    predict plan config.yaml --block-shape 256,256,256
    """
    from blockwise_predict.engine.predictor import choose_device
    from blockwise_predict.run.describe import describe_probe
    from blockwise_predict.run.planned import plan_run
    from blockwise_predict.worker.probe import run_probe

    run = plan_run(config)
    rows = run.description
    if probe and (run.selection is None or run.selection.computed.any()):
        measured = run_probe(run.plan, run.opened, choose_device(config.device))
        rows += describe_probe(measured, run.plan, run.opened, run.selection)
    for note in run.notes:
        click.echo(note)
    for warning in run.warnings:
        click.echo(f"Warning: {warning}")
    print_rows(rows)
