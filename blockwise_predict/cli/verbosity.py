"""How much a command says: `-q` and `-v`, the same for every command that has them."""

from __future__ import annotations

import functools
import logging
import sys
import warnings
from collections.abc import Callable
from enum import IntEnum
from typing import Any

import click

Command = Callable[..., None]


class Verbosity(IntEnum):
    """QUIET: warnings, errors and the last line. VERBOSE: also events, the commands of fleets and
    what libraries log."""

    QUIET = 0
    NORMAL = 1
    VERBOSE = 2


def verbosity_options(function: Command) -> Command:
    """Give a command `-q` and `-v`, and pass it one `verbosity`."""

    @functools.wraps(function)
    def command(*, quiet: bool, verbose: bool, **options: Any) -> None:
        if quiet and verbose:
            raise click.UsageError("--quiet and --verbose exclude each other.")
        verbosity = Verbosity.NORMAL
        if quiet or verbose:
            verbosity = Verbosity.VERBOSE if verbose else Verbosity.QUIET
        function(verbosity=verbosity, **options)

    flags = (
        ("-v", "--verbose", "Show also workers that join and leave, failed attempts, commands."),
        ("-q", "--quiet", "Show only warnings, errors and the last line."),
    )
    for short, long, text in flags:
        command = click.option(short, long, is_flag=True, help=text)(command)
    return command


def hide_library_remarks() -> None:
    """Keep what libraries warn of and log off the terminal.

    They write for programmers. What a user must know of is a warning of this package's own.
    """
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    # Without any handler, records would go to stderr.
    logging.getLogger().addHandler(logging.NullHandler())


def show_logs(show: Callable[[str], None]) -> None:
    """Show what the package logs, and what libraries warn of."""
    warnings.simplefilter("default")
    logging.captureWarnings(True)
    logging.getLogger("blockwise_predict").setLevel(logging.DEBUG)
    for name in ("blockwise_predict", "py.warnings"):
        logger = logging.getLogger(name)
        logger.addHandler(_Shown(show))
        logger.propagate = False


class _Shown(logging.Handler):
    """Passes the text of records on."""

    def __init__(self, show: Callable[[str], None]) -> None:
        super().__init__()
        self._show = show

    def emit(self, record: logging.LogRecord) -> None:
        """Show a record's text."""
        self._show(record.getMessage())
