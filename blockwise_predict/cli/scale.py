"""`predict scale`."""

from __future__ import annotations

import click

from blockwise_predict.cli.completing import PATH
from blockwise_predict.cli.options import run_option
from blockwise_predict.config.fleet_fields import MAX_WORKERS


@click.command(short_help="Change the number of workers of a running run.")
@click.argument("output", metavar="OUTPUT", type=PATH)
@click.argument("workers", type=click.IntRange(0, MAX_WORKERS), metavar="WORKERS")
@run_option("run_dir")
@run_option("trust_run_dir")
def scale(output: str, workers: int, run_dir: str | None, trust_run_dir: bool) -> None:
    """Change the number of workers that predict OUTPUT, or make its pyramid, to WORKERS.

    Additional workers are started at once. To have fewer, pending jobs are cancelled first; then
    workers finish the blocks they hold, and exit. A run that is started again uses its own
    --workers.

    \b
    predict scale predictions.zarr/affs 64
    predict scale predictions.zarr/affs 0      pause: the scheduler waits for more
    """
    from blockwise_predict.errors import RunStateError
    from blockwise_predict.records.find import find_run
    from blockwise_predict.records.lock import is_held
    from blockwise_predict.records.pyramid import pyramid_dir

    records, _ = find_run(output, run_dir, trust_run_dir=trust_run_dir)
    lock, pyramid = records.path / "lock", pyramid_dir(records)
    if (pyramid.path / "server.json").exists():
        records = pyramid
    address = records.address()
    if not is_held(lock):
        raise RunStateError(
            f"the scheduler of {records} on {address.host} is no longer running. Start it again "
            "with predict run."
        )
    with records.usable():
        records.request_workers(workers)
    click.echo(f"The run on {address.host} will keep {workers} workers, from the next second on.")
