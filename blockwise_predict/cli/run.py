"""`predict run`."""

from __future__ import annotations

import shlex
import sys

import click

from blockwise_predict.cli.options import GroupedCommand, run_options
from blockwise_predict.cli.verbosity import Verbosity, verbosity_options
from blockwise_predict.config.model import RunConfig

EXIT_CODES = {
    0: "every block is predicted, or left out as asked for",
    1: "some blocks failed",
    2: "an option, a file or a record is wrong",
    130: "interrupted",
}


@click.command(
    cls=GroupedCommand,
    short_help="Predict a volume; the same command again resumes it.",
    epilog=f"Exit codes: {', '.join(f'{code} {what}' for code, what in EXIT_CODES.items())}.",
)
@verbosity_options
@run_options
def run(config: RunConfig, verbosity: Verbosity) -> None:
    """Predict a volume, block by block; the same command again resumes the run.

    Options can also be given in a YAML file (keys are the options' names with _ for -). Those on
    the command line win.

    \b
    predict run --checkpoint dacapo/my_run --input volume.zarr/raw \\
                --output predictions.zarr/affs
    predict run --checkpoint dacapo/my_run --iteration 50000 \\
                --input s3://bucket/volume.zarr/raw --output predictions.n5/affs \\
                --roi "[20000:40000,0:30000,:]" --output-dtype uint8 --workers 4 \\
                --run-dir runs/affs
    predict run --checkpoint weights.pt --architecture arch.yaml \\
                --input raw.n5/volume --voxel-size 4.24,4,4 --output out.zarr/mito
    predict run config.yaml --workers 2

    Ctrl-C (or SIGTERM, or closing the terminal) lets blocks that are being computed finish; a
    second one stops at once.
    """
    from blockwise_predict.cli.console import step

    with step("Starting", verbosity):
        from blockwise_predict.cli.running import finish_process, run_with_display

    command = shlex.join(["predict", *sys.argv[1:]])
    finish_process(run_with_display(config, command, verbosity=verbosity))
