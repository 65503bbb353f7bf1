"""The command `predict`.

What is slow to import (torch, tensorstore, daisy) is imported inside the commands, so that `--help`
and malformed options are answered at once.
"""

from __future__ import annotations

import sys

import click

from blockwise_predict.cli.completion import completion
from blockwise_predict.cli.convert import convert
from blockwise_predict.cli.demo import demo
from blockwise_predict.cli.export import export
from blockwise_predict.cli.inspect import inspect
from blockwise_predict.cli.logs import logs
from blockwise_predict.cli.plaintext import use_plain_streams
from blockwise_predict.cli.plan import plan
from blockwise_predict.cli.pyramid import pyramid
from blockwise_predict.cli.report import report
from blockwise_predict.cli.retry import retry
from blockwise_predict.cli.run import run
from blockwise_predict.cli.scale import scale
from blockwise_predict.cli.sections import SectionedGroup
from blockwise_predict.cli.serve import serve
from blockwise_predict.cli.status import status
from blockwise_predict.cli.verbosity import hide_library_remarks
from blockwise_predict.cli.verify import verify
from blockwise_predict.cli.view import view
from blockwise_predict.cli.worker import worker
from blockwise_predict.cli.workers import workers
from blockwise_predict.config.version import __version__
from blockwise_predict.errors import PredictError


@click.group(cls=SectionedGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="predict")
def predict() -> None:
    """Run a trained U-Net over a volume too large for one machine.

    \b
    predict demo                  a small example, in two minutes
    predict inspect dacapo/my_run
    predict plan --checkpoint dacapo/my_run --input volume.zarr/raw \\
                 --output predictions.zarr/affs
    predict run ...               with the same options
    """


SECTIONS = {
    "Look first": (inspect, view, plan),
    "Predict": (run, status, logs, scale, retry),
    "After a run": (report, verify, pyramid, serve),
    "Other": (demo, convert, export, worker, workers, completion),
}
for title, commands in SECTIONS.items():
    for command in commands:
        predict.add_command(command)
    predict.sections[title] = [str(command.name) for command in commands]


def main() -> None:
    """Entry point. A user's mistake ends in a short message and exit code 2, never a traceback."""
    use_plain_streams()
    hide_library_remarks()
    try:
        predict()
    except PredictError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(error.exit_code)
