"""The options `--host` and `--port` of commands with a web server."""

from __future__ import annotations

import click

from blockwise_predict.cli.options import Command


def address_options(function: Command) -> Command:
    """Give a command the options `host` and `port`."""
    function = click.option(
        "--port", type=click.IntRange(0, 65535), default=0, help="Port. [default: any free one]"
    )(function)
    return click.option(
        "--host",
        default="127.0.0.1",
        help="Address to listen at; 0.0.0.0 lets other machines in. [default: this machine alone]",
        metavar="ADDRESS",
    )(function)
