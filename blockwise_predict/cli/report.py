"""`predict report`."""

from __future__ import annotations

from pathlib import Path

import click

from blockwise_predict.cli.completing import PATH
from blockwise_predict.cli.options import price_option, run_option
from blockwise_predict.config.price import Price


@click.command(short_help="Write a report on a run: one HTML file, and a table of its blocks.")
@click.argument("output", metavar="OUTPUT", type=PATH)
@run_option("run_dir")
@run_option("trust_run_dir")
@click.option(
    "--file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.html",
    help="Where to write it. [default: report.html in the run directory]",
)
@price_option
@click.option("--watch", is_flag=True, help="Write it every 30 s until the run ends.")
def report(
    output: str,
    run_dir: str | None,
    trust_run_dir: bool,
    file: Path | None,
    price: Price | None,
    watch: bool,
) -> None:
    """Write a report on the run that wrote OUTPUT, during the run or after it.

    The report is one HTML file that needs no network and prints well: provenance, throughput,
    workers, where the time went, maps of the blocks, failures, sample slices, and a check of the
    values' quality. Beside it goes a table with a row for each block. Only reads what the run
    wrote, a bounded sample of the values among it.

    \b
    predict report predictions.zarr/affs
    predict report predictions.zarr/affs --file ~/affs.html --price "2.50 USD"
    predict report predictions.zarr/affs --watch
    """
    from blockwise_predict.cli.progress import BlockProgress
    from blockwise_predict.records.find import find_run
    from blockwise_predict.report.make import WATCH_S, ReportMaker

    records, plan = find_run(output, run_dir, trust_run_dir=trust_run_dir)
    with BlockProgress("Sampling") as progress:
        maker = ReportMaker(records, plan, file, price=price, progress=progress.to)
        if watch:
            progress.line(f"Report: {maker.file}, written every {WATCH_S} s until the run ends.")
            maker.watch()
        else:
            maker.make()
    click.echo(f"Report: {maker.file}\nBlocks: {maker.trace}")
