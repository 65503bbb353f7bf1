"""`predict export`."""

from __future__ import annotations

from pathlib import Path

import click

from blockwise_predict.cli.completing import PATH
from blockwise_predict.cli.options import run_option
from blockwise_predict.cli.tables import print_rows


@click.command(short_help="Write a checkpoint as a file that other programs can use.")
@click.argument("checkpoint", type=PATH)
@click.argument("target", type=click.Path(path_type=Path))
@run_option("iteration")
@run_option("architecture")
@run_option("activation")
@run_option("unsafe_load_pickle")
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
def export(
    checkpoint: str,
    target: Path,
    iteration: int | None,
    architecture: str | None,
    activation: str | None,
    unsafe_load_pickle: bool,
    overwrite: bool,
) -> None:
    """Write CHECKPOINT as TARGET, whose suffix decides the form.

    .pt2: operations and weights, as torch.export writes them, for any program that has torch. The
    network takes every valid input size; where that cannot be exported, one size, which is named.
    It includes head and activation; its input is normalised as in training.

    .safetensors: the weights, and beside them a .yaml with architecture and task.

    \b
    predict export dacapo/my_run network.pt2
    predict export dacapo/my_run weights.safetensors --iteration 50000
    predict run --checkpoint weights.safetensors --architecture weights.yaml ...
    """
    from blockwise_predict.cli.console import step

    with step("Exporting"):
        from blockwise_predict.checkpoint import open_checkpoint
        from blockwise_predict.checkpoint.export import export_checkpoint, exported_files

        files = exported_files(target, overwrite=overwrite)
        model = open_checkpoint(
            checkpoint,
            iteration=iteration,
            architecture=architecture,
            activation=activation,
            unsafe_load_pickle=unsafe_load_pickle,
        )
        rows = export_checkpoint(model, files)
    print_rows(rows)
