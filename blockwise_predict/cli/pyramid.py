"""`predict pyramid`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from blockwise_predict.cli.options import run_option

if TYPE_CHECKING:
    from blockwise_predict.io.downsampled import Method


@click.command(short_help="Make downsampled levels of an output, for viewers.")
@click.argument("output", metavar="OUTPUT")
@run_option("run_dir")
@run_option("trust_run_dir")
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
def pyramid(
    output: str, run_dir: str | None, trust_run_dir: bool, levels: int | None, method: Method | None
) -> None:
    """Make downsampled levels of OUTPUT, a zarr array that predict run has completed.

    Each level has voxels twice as large as the one below; an axis whose voxels are much larger than
    those of the others waits until they have caught up. The levels of out.zarr/affs are
    out.zarr/affs_s1, out.zarr/affs_s2, ..., and viewers find them in the OME-NGFF metadata of
    out.zarr. The same command again resumes it.

    \b
    predict pyramid predictions.zarr/affs
    predict pyramid predictions.zarr/affs --levels 3
    """
    from blockwise_predict.cli.progress import BlockProgress
    from blockwise_predict.run.pyramid.build import Watch
    from blockwise_predict.run.pyramid.make import make_pyramid

    with BlockProgress("Downsampling") as progress:
        make_pyramid(
            output,
            run_dir=run_dir,
            trust_run_dir=trust_run_dir,
            method=method,
            levels=levels,
            watch=Watch(progress.line, progress.to),
        )
