"""`predict plan`."""

from __future__ import annotations

from pathlib import Path

import click

from blockwise_predict.cli.options import GroupedCommand, price_option, run_options
from blockwise_predict.cli.tables import page_width
from blockwise_predict.config.model import RunConfig
from blockwise_predict.config.price import Price
from blockwise_predict.errors import ConfigError


@click.command(cls=GroupedCommand, short_help="Show what a run would do and cost; writes nothing.")
@click.option(
    "--probe",
    is_flag=True,
    help="Predict a part of one block, and tell the speed, and the hours of 1, 8 and 64 workers.",
)
@price_option
@click.option(
    "--picture",
    type=click.Path(path_type=Path),
    metavar="FILE.png",
    help="Draw volume, ROI, blocks and mask into a PNG; only such a picture is replaced.",
)
@click.option("--json", "as_json", is_flag=True, help="Print all of it as one JSON document.")
@run_options
def plan(
    config: RunConfig,
    probe: bool,
    price: Price | None,
    picture: Path | None,
    as_json: bool,
) -> None:
    """Show what `predict run` with the same options would do and cost; writes at most a picture.

    \b
    predict plan config.yaml --probe --price "2.50 USD"
    predict plan --checkpoint dacapo/my_run --input volume.zarr/raw \\
                 --output predictions.zarr/affs
    predict plan config.yaml --picture plan.png
    predict plan config.yaml --block-shape 256,256,256
    """
    from blockwise_predict.cli.console import step

    with step("Starting"):
        from blockwise_predict.engine.predictor import choose_device
        from blockwise_predict.run.overview.durations import measured_for
        from blockwise_predict.run.overview.page import as_text
        from blockwise_predict.run.overview.picture import check_picture, save_picture
        from blockwise_predict.run.planned import plan_run
        from blockwise_predict.worker.probe import run_probe

    if price is not None and not probe:
        raise ConfigError("--price needs the hours that --probe finds out: give both.")
    if picture is not None:
        check_picture(picture)
    with step("Planning"):
        run = plan_run(config)
    measured = None
    if probe and (run.selection is None or run.selection.computed.any()):
        with step("Measuring the speed"):
            found = run_probe(run.plan, run.opened, choose_device(config.device))
        measured = measured_for(run.subject, found, price)
    with step("Counting costs"):
        overview = run.overview(measured)
    if picture is not None:
        with step("Drawing"):
            save_picture(picture, run.subject, overview)
    if as_json:
        click.echo(overview.model_dump_json(indent=2))
    else:
        click.echo(as_text(overview, page_width()))
