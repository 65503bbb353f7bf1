"""`predict convert`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from blockwise_predict.cli.completing import PATH
from blockwise_predict.cli.options import run_option
from blockwise_predict.cli.tables import print_rows
from blockwise_predict.cli.verbosity import Verbosity, verbosity_options

if TYPE_CHECKING:
    from blockwise_predict.geometry.grid import Lengths


@click.command(short_help="Convert a TIFF stack or an HDF5 dataset into a zarr array.")
@click.argument("source", metavar="STACK", type=PATH)
@click.argument("target", metavar="ARRAY", type=PATH)
@run_option("voxel_size", unset="what the file states")
@run_option("offset", unset="what the file states, or 0")
@click.option(
    "--axes",
    metavar="LETTERS",
    help="The axes as they are stored, of t, c, z, y, x. [default: what the file states]",
)
@click.option("--overwrite", is_flag=True, help="Replace an array that exists.")
@verbosity_options
def convert(
    source: str,
    target: str,
    voxel_size: Lengths | None,
    offset: Lengths | None,
    axes: str | None,
    overwrite: bool,
    verbosity: Verbosity,
) -> None:
    """Convert STACK, a TIFF stack or an HDF5 dataset on a disk, into ARRAY, which runs can read.

    STACK is a TIFF file of many pages (BigTIFF, OME-TIFF, ImageJ), a folder or a pattern of TIFF
    files with a slice each, in the order of the numbers in their names, or FILE.h5/DATASET. ARRAY
    lies in a container: OUT.zarr/raw (zarr 3 unless the container is zarr 2) or OUT.n5/raw. Values
    are kept as they are.

    The same command again goes on with a conversion that was interrupted.

    \b
    predict convert stack.tif volume.zarr/raw --voxel-size 30,4,4
    predict convert 'slices/*.tif' volume.zarr/raw --voxel-size 30,4,4
    predict convert volume.h5/volumes/raw s3://bucket/volume.zarr/raw
    """
    from blockwise_predict.cli.console import step
    from blockwise_predict.cli.progress import BlockProgress
    from blockwise_predict.io import describe_array
    from blockwise_predict.io.conversion.convert import convert as convert_stack
    from blockwise_predict.io.conversion.convert import plan_conversion
    from blockwise_predict.io.given import Given

    given = Given(voxel_size, offset)
    with step("Looking at the stack"):
        conversion = plan_conversion(source, target, given, axes=axes, overwrite=overwrite)
    if verbosity:
        print_rows(describe_array(conversion.source))
    with BlockProgress("Converting", verbosity) as progress:
        if conversion.finished:
            progress.line(f"{conversion.output} is completely converted already.")
        elif conversion.begun:
            progress.line(f"Going on with {conversion.output}.")
        convert_stack(conversion, overwrite=overwrite, progress=progress.to)
    click.echo(f"written to {conversion.output}")
