"""`predict view`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from blockwise_predict.cli.address import address_options
from blockwise_predict.cli.completing import PATH
from blockwise_predict.cli.options import Command, GroupedCommand, run_option
from blockwise_predict.config.model import OPTIONS, PREDICTION_KEYS
from blockwise_predict.errors import ConfigError

# Of a prediction on demand.
_KEYS = ("checkpoint", "input", "voxel_size", "offset", "roi", *PREDICTION_KEYS)


def _prediction_options(function: Command) -> Command:
    """The options of `predict run` that concern the prediction itself, in their usual order."""
    for key in (key for key in reversed(OPTIONS) if key in _KEYS):
        function = run_option(key)(function)
    return function


@click.command(cls=GroupedCommand, short_help="Look at an output, or predict where you look.")
@click.argument("path", metavar="[ARRAY]", required=False, type=PATH)
@_prediction_options
@run_option("run_dir")
@run_option("trust_run_dir")
@address_options
@click.option("--no-browser", is_flag=True, help="Only print the URL.")
@click.option(
    "--screenshot",
    type=click.Path(path_type=Path),
    help="Write the page to a PNG file, by a Chromium without a window, and end.",
    metavar="FILE.png",
)
def view(
    path: str | None,
    run_dir: str | None,
    trust_run_dir: bool,
    host: str,
    port: int,
    no_browser: bool,
    screenshot: Path | None,
    **options: Any,
) -> None:
    """Look at ARRAY, an output of predict run or any other array, in neuroglancer.

    An output is shown on its input, with its ROI, its mask and the states of its blocks. With a
    --checkpoint and an --input instead, the network predicts where you look: the same values as a
    run with these options, to try iterations, normalisations and sizes before it.

    \b
    predict view predictions.zarr/affs
    predict view volume.zarr/raw --no-browser --port 8000
    predict view --checkpoint dacapo/my_run --iteration 50000 \\
                 --input volume.zarr/raw
    predict view predictions.zarr/affs --screenshot affs.png
    """
    from blockwise_predict.cli.running import finish_process
    from blockwise_predict.view.screenshot import check_screenshot
    from blockwise_predict.view.server import Address
    from blockwise_predict.view.show import save_screenshot, show_page

    given = {key: value for key, value in options.items() if value not in (None, False, ())}
    if path is not None and given:
        names = ", ".join(OPTIONS[key].name for key in given)
        raise ConfigError(
            f"{path} is shown as it is stored, and {names} are for predictions on demand, of "
            "--input by --checkpoint. Give one of both."
        )
    if screenshot is not None:
        check_screenshot(screenshot)
    page = _stored(path, run_dir, trust_run_dir) if path is not None else _predicted(given)
    if screenshot is not None:
        save_screenshot(page, screenshot)
    else:
        show_page(page, Address(host, port), tell=click.echo, browser=not no_browser)
    # A chunk that is being computed need not be waited for.
    finish_process(0)


def _stored(path: str, run_dir: str | None, trust_run_dir: bool) -> Any:
    from blockwise_predict.view.app import Page
    from blockwise_predict.view.output import output_scene
    from blockwise_predict.view.subject import open_subject

    subject = open_subject(path, run_dir, trust_run_dir=trust_run_dir)
    _warn(subject.notes)
    return Page(*output_scene(subject))


def _predicted(given: Mapping[str, Any]) -> Any:
    from blockwise_predict.view.app import Page
    from blockwise_predict.view.computed import open_on_demand
    from blockwise_predict.view.predicting import predicting_scene

    if not given:
        raise ConfigError(
            "Name what to look at: an array, or a --checkpoint and an --input to predict from."
        )
    made = open_on_demand(given)
    for note in made.plan.notes:
        click.echo(note, err=True)
    _warn(made.plan.warnings)
    return Page(*predicting_scene(made), running=made.demand.running)


def _warn(texts: tuple[str, ...]) -> None:
    for text in texts:
        click.echo(f"Warning: {text}", err=True)
