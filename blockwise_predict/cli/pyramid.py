"""`predict pyramid`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from blockwise_predict.cli.completing import PATH
from blockwise_predict.cli.options import GroupedCommand, run_option, worker_options
from blockwise_predict.cli.verbosity import Verbosity, verbosity_options

if TYPE_CHECKING:
    from blockwise_predict.io.downsampled import Method


@click.command(cls=GroupedCommand, short_help="Make downsampled levels of an output, for viewers.")
@click.argument("output", metavar="OUTPUT", type=PATH)
@click.option(
    "--levels",
    type=click.IntRange(1),
    help="Number of levels. [default: until one fits into a chunk]",
    metavar="N",
)
@click.option(
    "--mode",
    "method",
    type=click.Choice(["mean", "mode"]),
    help="mean, or mode: the most frequent value. [default: mode for what --postprocess has made, "
    "else mean]",
)
@worker_options(workers="threads of this process; of another fleet 1")
@run_option("run_dir")
@run_option("trust_run_dir")
@verbosity_options
def pyramid(
    output: str,
    levels: int | None,
    method: Method | None,
    verbosity: Verbosity,
    **given: Any,
) -> None:
    """Make downsampled levels of OUTPUT, a zarr array that predict run has completed.

    Each level has voxels twice as large as the one below; an axis whose voxels are much larger than
    those of the others waits until they have caught up. The levels of out.zarr/affs are
    out.zarr/affs_s1, out.zarr/affs_s2, ..., and viewers find them in the OME-NGFF metadata of
    out.zarr. The same command again resumes it.

    Threads of this process make them, or workers as predict run has them, for volumes that one
    machine cannot read in time.

    \b
    predict pyramid predictions.zarr/affs
    predict pyramid predictions.zarr/affs --levels 3
    predict pyramid predictions.zarr/affs --fleet slurm --workers 64 --gpus 0
    """
    from blockwise_predict.cli.progress import BlockProgress
    from blockwise_predict.cli.running import INTERRUPTED, finish_process, stopped_by_signals
    from blockwise_predict.run.pyramid.build import Watch
    from blockwise_predict.run.pyramid.make import Wanted, make_pyramid
    from blockwise_predict.run.stop import StopRequest

    stop = StopRequest()
    with stopped_by_signals(stop), BlockProgress("Downsampling", verbosity) as progress:
        wanted = Wanted(output, method, levels)
        complete = make_pyramid(wanted, given, Watch(progress, progress.to, stop))
    if not complete:
        progress.outcome("Interrupted: the same command resumes it.")
        finish_process(INTERRUPTED)
