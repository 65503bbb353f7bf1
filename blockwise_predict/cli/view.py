"""`predict view`."""

from __future__ import annotations

import click

from blockwise_predict.cli.address import address_options
from blockwise_predict.cli.completing import PATH
from blockwise_predict.cli.options import GroupedCommand, run_option


@click.command(cls=GroupedCommand, short_help="Look at an output or an array in a browser.")
@click.argument("path", metavar="ARRAY", type=PATH)
@run_option("run_dir")
@run_option("trust_run_dir")
@address_options
@click.option("--no-browser", is_flag=True, help="Only print the URL.")
def view(
    path: str,
    run_dir: str | None,
    trust_run_dir: bool,
    host: str,
    port: int,
    no_browser: bool,
) -> None:
    """Look at ARRAY, an output of predict run or any other array, in neuroglancer.

    An output is shown on its input, with its ROI, its mask and the states of its blocks.

    \b
    predict view predictions.zarr/affs
    predict view volume.zarr/raw --no-browser --port 8000
    """
    from blockwise_predict.view.app import page_of
    from blockwise_predict.view.output import output_scene
    from blockwise_predict.view.server import Address
    from blockwise_predict.view.show import show_page
    from blockwise_predict.view.subject import open_subject

    subject = open_subject(path, run_dir, trust_run_dir=trust_run_dir)
    for note in subject.notes:
        click.echo(f"Warning: {note}", err=True)
    site = page_of(*output_scene(subject))
    show_page(site, Address(host, port), tell=click.echo, browser=not no_browser)
