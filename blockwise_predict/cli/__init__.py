"""The command `predict`.

What is slow to import (torch, tensorstore, daisy) is imported inside the commands, so that `--help`
and malformed options are answered at once.
"""

from __future__ import annotations

import sys

import click

from blockwise_predict.cli.convert import convert
from blockwise_predict.cli.demo import demo
from blockwise_predict.cli.export import export
from blockwise_predict.cli.inspect import inspect
from blockwise_predict.cli.logs import logs
from blockwise_predict.cli.plaintext import use_plain_streams
from blockwise_predict.cli.plan import plan
from blockwise_predict.cli.pyramid import pyramid
from blockwise_predict.cli.retry import retry
from blockwise_predict.cli.run import run
from blockwise_predict.cli.scale import scale
from blockwise_predict.cli.serve import serve
from blockwise_predict.cli.status import status
from blockwise_predict.cli.verify import verify
from blockwise_predict.cli.view import view
from blockwise_predict.cli.worker import worker
from blockwise_predict.cli.workers import workers
from blockwise_predict.config.version import __version__
from blockwise_predict.errors import PredictError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="predict")
def predict() -> None:
    """Run a trained U-Net over a volume too large for one machine.

    \b
    predict demo                      a small example, with a picture, in two minutes
    predict inspect CHECKPOINT        a network's context, channels and size
    predict inspect ARRAY             an array's geometry, and where it was read from
    predict plan ...                  what a run would do and cost; writes nothing
    predict run ...                   run it; the same command again resumes it
    predict status OUTPUT             how far it is, what it has used, who works on it
    predict view OUTPUT               look at it in a browser, also while it runs
    predict logs OUTPUT               the logs of its workers
    predict scale OUTPUT N            change its number of workers
    predict verify OUTPUT             check what it wrote, chunk by chunk
    predict pyramid OUTPUT            downsampled levels for viewers
    predict retry OUTPUT              try its failed blocks again
    predict serve ARRAY               arrays as zarr over HTTP, for other programs
    predict convert STACK ARRAY       a TIFF stack or HDF5 dataset as an array that runs read
    predict export CHECKPOINT FILE    the network for other programs: .pt2 or .safetensors
    predict workers list              scripts for clusters and containers, to edit
    """


for command in (
    *(run, plan, inspect, status, view, logs, scale, verify, pyramid, retry),
    *(serve, convert, export, worker, workers, demo),
):
    predict.add_command(command)


def main() -> None:
    """Entry point. A user's mistake ends in a short message and exit code 2, never a traceback."""
    use_plain_streams()
    try:
        predict()
    except PredictError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(error.exit_code)
