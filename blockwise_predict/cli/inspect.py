"""`predict inspect`."""

from __future__ import annotations

from pathlib import Path

import click

from blockwise_predict.cli.tables import print_rows
from blockwise_predict.config.model import load_lengths
from blockwise_predict.errors import InputError


@click.command(short_help="Show what was understood of a checkpoint or an array.")
@click.argument("path")
@click.option("--iteration", type=int, help="Iteration of a DaCapo run. [default: latest]")
@click.option("--architecture", metavar="YAML", help="Architecture of bare weights.")
@click.option("--unsafe-load-pickle", is_flag=True, help="As for predict run.")
@click.option("--voxel-size", metavar="Z,Y,X", help="In nm, instead of the array's own.")
@click.option("--offset", metavar="Z,Y,X", help="In nm, instead of the array's own.")
def inspect(
    path: str,
    iteration: int | None,
    architecture: str | None,
    unsafe_load_pickle: bool,
    voxel_size: str | None,
    offset: str | None,
) -> None:
    """Show what was understood of PATH, a checkpoint or an array.

    \b
    predict inspect dacapo/my_run --iteration 50000
    predict inspect weights.pt --architecture arch.yaml
    predict inspect volume.zarr/raw
    """
    from blockwise_predict.checkpoint import open_checkpoint
    from blockwise_predict.checkpoint.describe import describe_checkpoint
    from blockwise_predict.io import describe_array, names_array, open_input

    if names_array(path):
        array = open_input(
            path,
            voxel_size=load_lengths("--voxel-size", voxel_size),
            offset=load_lengths("--offset", offset),
        )
        print_rows(describe_array(array))
        return
    if not Path(path).exists():
        raise InputError(f"{path}: no such file, folder or array.")
    model = open_checkpoint(
        path, iteration=iteration, architecture=architecture, unsafe_load_pickle=unsafe_load_pickle
    )
    print_rows(describe_checkpoint(model))
