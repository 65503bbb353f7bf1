"""`predict verify`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from blockwise_predict.cli.completing import PATH
from blockwise_predict.cli.options import run_option
from blockwise_predict.cli.verbosity import Verbosity, verbosity_options

if TYPE_CHECKING:
    from blockwise_predict.run.verification.findings import Report

SHOWN_RANGES = 30


@click.command(short_help="Check an output: every chunk, and blocks computed again.")
@click.argument("output", metavar="OUTPUT", type=PATH)
@run_option("run_dir")
@run_option("trust_run_dir")
@run_option("unsafe_load_pickle")
@run_option("factory")
@click.option(
    "--sample",
    type=click.IntRange(0),
    default=0,
    help="Compute N random blocks again, and compare.",
    metavar="N",
)
@click.option("--seed", type=int, help="Seed for the choice of blocks. [default: random]")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option(
    "--repair", is_flag=True, help="Mark bad blocks for the next run; rebuild lost records."
)
@verbosity_options
def verify(
    output: str,
    run_dir: str | None,
    trust_run_dir: bool,
    unsafe_load_pickle: bool,
    factory: str | None,
    sample: int,
    seed: int | None,
    as_json: bool,
    repair: bool,
    verbosity: Verbosity,
) -> None:
    """Check that OUTPUT holds everything that its run should have written.

    Every chunk is read, and downsampled levels are compared with the level below. A block is
    complete, filled (unreadable input was replaced), skipped (left out, since its input could not
    be read), masked, outside or empty (left out by --mask, --rois or --skip-empty), failed, missing
    (not done yet), damaged, different (from what --sample computed again), or unchecked (it could
    not be computed again). Exit code 1 if anything is wrong or missing.

    \b
    predict verify predictions.zarr/affs --sample 5
    predict verify predictions.zarr/affs --json > report.json
    predict verify predictions.zarr/affs --repair; predict run ...
    """
    from blockwise_predict.cli.progress import BlockProgress
    from blockwise_predict.run.verification.verify import verify as verify_output

    with BlockProgress("Checking", verbosity) as progress:
        report = verify_output(
            output,
            run_dir=run_dir,
            sample=sample,
            seed=seed,
            repair=repair,
            tell=progress.line,
            progress=progress.to,
            trust_run_dir=trust_run_dir,
            unsafe_load_pickle=unsafe_load_pickle,
            factory=factory,
        )
    if as_json:
        click.echo(json.dumps({"good": report.good, **asdict(report)}, indent=2))
    else:
        _show(report)
    sys.exit(0 if report.good else 1)


def _show(report: Report) -> None:
    total = sum(report.counts.values())
    counts = ", ".join(f"{count} {finding}" for finding, count in report.counts.items() if count)
    click.echo(f"{total} blocks: {counts}.")
    for found in report.ranges[:SHOWN_RANGES]:
        blocks = f"{found.blocks} block{'s' if found.blocks > 1 else ''}"
        detail = f": {found.detail}" if found.detail else ""
        click.echo(f"  {found.finding} {found.roi} {report.units} ({blocks}){detail}")
    if len(report.ranges) > SHOWN_RANGES:
        click.echo(f"  and {len(report.ranges) - SHOWN_RANGES} more ranges; --json lists them all")
    if report.sampled:
        click.echo(f"{report.sampled} blocks were computed again and compared.")
    if report.sample_problem:
        click.echo(f"No block could be computed again: {report.sample_problem}")
    if report.ledger_problem:
        click.echo(f"The record of finished blocks cannot be used: {report.ledger_problem}")
    for level in report.levels:
        state = (
            f"{level.wrong} are wrong: {level.detail}" if level.wrong else "as the level below says"
        )
        click.echo(f"Level {level.path}: {level.blocks} blocks, {state}.")
    if report.repaired is not None:
        what = "The record of finished blocks was rebuilt" if report.ledger_problem else ""
        marked = f"{report.repaired} blocks were marked to be done again"
        click.echo(f"{what}; {marked}." if what else f"{marked}.")
        if any(level.wrong for level in report.levels):
            click.echo("The levels of such arrays were removed: predict pyramid makes them again.")
    elif not report.good and report.needs_repair:
        click.echo("Give --repair to have the next predict run compute the bad ones again.")
