"""`predict demo`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from blockwise_predict.cli.verbosity import Verbosity, verbosity_options
from blockwise_predict.cli.view import view
from blockwise_predict.config.model import load_config
from blockwise_predict.config.option import option_name


@click.command(short_help="Make a small volume, predict it, draw a picture, and report.")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("predict-demo"),
    show_default=True,
    help="Folder for the volume, the prediction, the picture and the report.",
)
@verbosity_options
def demo(folder: Path, verbosity: Verbosity) -> None:
    """Make a small EM-like volume, predict it like any other, and draw a picture of both.

    The network is small, was trained on such volumes (benchmarks/train_demo.py), and predicts
    affinities: for each voxel and axis, whether the next voxel is in the same cell. Takes less than
    two minutes on two cores. Then writes a report on the run, and offers to open the viewer.

    \b
    predict demo
    predict demo --folder /tmp/demo
    """
    from blockwise_predict.cli.demonstration import SHAPE, Demonstration
    from blockwise_predict.cli.running import finish_process, run_with_display

    files = Demonstration(folder)
    say = click.echo if verbosity else lambda _: None
    say(f"Making a volume of {' x '.join(map(str, SHAPE))} voxels: {files.raw}")
    phantom = files.write_phantom()
    words = [word for key, value in files.options().items() for word in (option_name(key), value)]
    command = shlex.join(["predict", "run", *words])
    say(f"Predicting affinities of cells, as this command does:\n  {command}")
    code = run_with_display(load_config(files.options()), command, verbosity=verbosity)
    if code == 0:
        files.draw(phantom)
        result = files.score(phantom)
        click.echo(
            f"Boundaries against the truth: ROC AUC {result.roc_auc:.3f}, "
            f"average precision {result.average_precision:.3f}.\n"
            f"Raw beside prediction: {files.picture}"
        )
        files.write_report()
        click.echo(f"Report on the run: {files.report}")
        _offer_viewer(str(files.prediction), ask=bool(verbosity))
    finish_process(code)


def _offer_viewer(output: str, *, ask: bool) -> None:
    """Say how to look at an output; on a terminal, ask whether to do so now."""
    click.echo(f"Look at it: {shlex.join(['predict', 'view', output])}")
    on_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if ask and on_terminal and click.confirm("Open it in a browser now?", default=True):
        click.get_current_context().invoke(view, path=output)
