"""`predict view`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from blockwise_predict.cli.address import address_options
from blockwise_predict.cli.completing import PATH
from blockwise_predict.cli.on_demand import (
    given_options,
    open_predictions,
    prediction_options,
    warn,
)
from blockwise_predict.cli.options import GroupedCommand, run_option
from blockwise_predict.config.option import option_name
from blockwise_predict.errors import ConfigError


@click.command(cls=GroupedCommand, short_help="Look at an output, or predict where you look.")
@click.argument("path", metavar="[ARRAY]", required=False, type=PATH)
@prediction_options
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

    given = given_options(options)
    if path is not None and given:
        names = ", ".join(option_name(key) for key in given)
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
    warn(subject.notes)
    return Page(*output_scene(subject))


def _predicted(given: Mapping[str, Any]) -> Any:
    from blockwise_predict.view.app import Page
    from blockwise_predict.view.predicting import predicting_scene

    if not given:
        raise ConfigError(
            "Name what to look at: an array, or a --checkpoint and an --input to predict from."
        )
    made = open_predictions(given)
    return Page(*predicting_scene(made), running=made.demand.running)
