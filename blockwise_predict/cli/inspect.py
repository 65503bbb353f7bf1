"""`predict inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from blockwise_predict.cli.completing import PATH
from blockwise_predict.cli.options import run_option
from blockwise_predict.cli.tables import print_rows
from blockwise_predict.config.values import HUB_SCHEME
from blockwise_predict.errors import InputError

if TYPE_CHECKING:
    from blockwise_predict.geometry.grid import Lengths


@click.command(short_help="Show how a checkpoint or an array is interpreted.")
@click.argument("path", type=PATH)
@run_option("iteration")
@run_option("architecture")
@run_option("unsafe_load_pickle")
@run_option("factory")
@run_option("voxel_size")
@run_option("offset")
def inspect(
    path: str,
    iteration: int | None,
    architecture: str | None,
    unsafe_load_pickle: bool,
    factory: str | None,
    voxel_size: Lengths | None,
    offset: Lengths | None,
) -> None:
    """Show how PATH, a checkpoint or an array, is interpreted; of a multiscale group its levels.

    \b
    predict inspect dacapo/my_run --iteration 50000
    predict inspect weights.pt --architecture arch.yaml
    predict inspect volume.zarr/raw
    """
    from blockwise_predict.io import describe_array, describe_levels, names_array, open_input

    on_hub = path.startswith(HUB_SCHEME)
    if not on_hub and names_array(path):
        rows = describe_levels(path)
        if rows is None:
            rows = describe_array(open_input(path, voxel_size=voxel_size, offset=offset))
        print_rows(rows)
        return
    if not on_hub and not Path(path).exists():
        raise InputError(f"{path}: no such file, folder or array.")
    from blockwise_predict.cli.console import step

    with step("Opening the checkpoint"):
        from blockwise_predict.checkpoint import open_checkpoint
        from blockwise_predict.checkpoint.describe import describe_checkpoint

        model = open_checkpoint(
            path,
            iteration=iteration,
            architecture=architecture,
            unsafe_load_pickle=unsafe_load_pickle,
            factory=factory,
        )
        rows = describe_checkpoint(model)
    print_rows(rows)
