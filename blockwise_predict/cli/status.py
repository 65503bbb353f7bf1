"""`predict status`."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from blockwise_predict.cli.completing import PATH
from blockwise_predict.cli.options import price_option, run_option
from blockwise_predict.cli.tables import row_lines
from blockwise_predict.config.plain import plain
from blockwise_predict.config.price import Price

if TYPE_CHECKING:
    from blockwise_predict.plan.model import Plan
    from blockwise_predict.report.status import RunStatus

# Interval between two looks at a run (seconds).
WATCH_S = 2.0
# Columns and lines where there is no terminal.
OUTSIDE_A_TERMINAL = (120, 1000)


@click.command(short_help="How far a run is, and what it has used.")
@click.argument("output", metavar="OUTPUT", type=PATH)
@click.option("--watch", is_flag=True, help="Show it again every 2 seconds, until the run ends.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object; one a line of --watch.")
@price_option
@run_option("run_dir")
@run_option("trust_run_dir")
def status(
    output: str,
    watch: bool,
    as_json: bool,
    price: Price | None,
    run_dir: str | None,
    trust_run_dir: bool,
) -> None:
    """Show how far the run that writes OUTPUT is, what it has used, and who works on it.

    It reads the records that the run keeps on disk, on any machine that sees them, while the run is
    on and after.

    \b
    predict status predictions.zarr/affs
    predict status predictions.zarr/affs --watch --price "2.50 USD"
    predict status predictions.zarr/affs --json
    """
    from blockwise_predict.records.find import find_run
    from blockwise_predict.records.lock import is_held
    from blockwise_predict.report.status import Condition, read_moment, run_status

    records, plan = find_run(output, run_dir, trust_run_dir=trust_run_dir)

    def look() -> RunStatus:
        running = is_held(records.path / "lock")
        return run_status(records, plan, read_moment(records, plan, running=running))

    def text(found: RunStatus) -> str:
        return _json(found, price) if as_json else _table(found, plan, price)

    found = look()
    with _screen(live=watch and not as_json) as show:
        show(text(found))
        while watch and found.condition is Condition.RUNNING:
            time.sleep(WATCH_S)
            found = look()
            show(text(found))


@contextmanager
def _screen(*, live: bool) -> Iterator[Callable[[str], None]]:
    """Gives what shows a text: on a terminal, if `live`, each in place of the last one."""
    if not (live and sys.stdout.isatty()):
        yield click.echo
        return
    from rich.live import Live
    from rich.text import Text

    from blockwise_predict.cli.console import make_console

    with Live(
        console=make_console(), auto_refresh=False, redirect_stdout=False, redirect_stderr=False
    ) as screen:
        yield lambda text: screen.update(Text(plain(text), no_wrap=True), refresh=True)


def _json(found: RunStatus, price: Price | None) -> str:
    cost = None if price is None else price.amount * found.worker_hours
    return json.dumps({**asdict(found), "cost": cost})


def _table(found: RunStatus, plan: Plan, price: Price | None) -> str:
    from blockwise_predict.report.tables import status_rows

    lines = row_lines(status_rows(found, price))
    if found.workers:
        from blockwise_predict.cli.worker_table import worker_lines

        screen = shutil.get_terminal_size(OUTSIDE_A_TERMINAL)
        table = worker_lines(
            found.workers,
            width=screen.columns,
            height=screen.lines - len(lines) - 2,
            voxels_per_block=plan.output.roi.size / plan.num_blocks,
        )
        lines += ["", *(line.plain for line in table)]
    return "\n".join(lines)
