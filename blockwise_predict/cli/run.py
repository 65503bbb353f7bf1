"""`predict run`."""

from __future__ import annotations

import shlex
import sys

import click

from blockwise_predict.cli.options import run_options
from blockwise_predict.config.model import RunConfig


@click.command(short_help="Predict a volume; the same command again resumes it.")
@run_options
def run(config: RunConfig) -> None:
    """Predict a volume, block by block; the same command again resumes.

    Options can also stand in a YAML file (keys as the options, with _ for -); options win.

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

    Ctrl-C (or SIGTERM, or closing the terminal) lets the blocks in work finish; a second one stops
    at once. Exit codes: 0 every voxel is predicted, 1 some blocks failed, 2 something given is
    wrong, 130 interrupted.
    """
    from blockwise_predict.cli.running import finish_process, run_with_display

    command = shlex.join(["predict", *sys.argv[1:]])
    finish_process(run_with_display(config, command))
