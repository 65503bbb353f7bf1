"""Messages on stderr, for a terminal or for a file."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from blockwise_predict.cli.verbosity import Verbosity, show_logs
from blockwise_predict.config.plain import plain
from blockwise_predict.config.steps import Doing, watched_by


class Messages:
    """Writes messages to stderr, as many as the verbosity asks for."""

    def __init__(self, verbosity: Verbosity = Verbosity.NORMAL) -> None:
        self.verbosity = verbosity
        self.console = make_console()
        if verbosity is Verbosity.VERBOSE:
            show_logs(self.detail)

    @property
    def is_live(self) -> bool:
        """Whether lines on the screen can be changed later, and are to be."""
        return is_movable(self.console) and self.verbosity is not Verbosity.QUIET

    def line(self, text: str) -> None:
        """A message, which `--quiet` hides."""
        if self.verbosity is not Verbosity.QUIET:
            self.outcome(text)

    def outcome(self, text: str) -> None:
        """How something ended, or an error."""
        self.console.print(plain(text), markup=False)

    def warn(self, text: str) -> None:
        """A warning."""
        self.console.print(plain(f"Warning: {text}"), markup=False, style="yellow")

    def detail(self, text: str) -> None:
        """What only `--verbose` shows."""
        self.console.print(plain(text), markup=False, style="dim")


@contextmanager
def step(what: str, verbosity: Verbosity = Verbosity.NORMAL) -> Iterator[None]:
    """Show on a terminal, while the context is open, that something takes its time, and which of
    its own steps it is at."""
    console = make_console()
    if verbosity is Verbosity.QUIET or not is_movable(console):
        yield
        return
    text = TextColumn("{task.description}", markup=False)
    columns = (SpinnerColumn(), text, TimeElapsedColumn())
    with Progress(
        *columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False
    ) as shown:
        task = shown.add_task(what, total=None)

        def show(doing: Doing | None) -> None:
            shown.update(task, description=what if doing is None else plain(f"{what}: {doing}"))

        with watched_by(show):
            yield


def is_movable(console: Console) -> bool:
    """Whether lines that a console has written can be changed later."""
    # Not `is_terminal`, which a variable of the environment can claim.
    return console.file.isatty() and not console.is_dumb_terminal


def make_console() -> Console:
    """A console on stderr; pass text from files through `plain` before printing it."""
    return Console(file=_stderr(), highlight=False, soft_wrap=True, emoji=False)


class _Unheard(io.FileIO):
    """A file descriptor that discards what cannot be written.

    The terminal may be closed, the disk of a log full, and in `predict run ... | tee log` Ctrl-C
    ends `tee` as well. A run must not abort, and leave its jobs in the queue, because its messages
    cannot be shown. Warnings are recorded in the run's events as well.
    """

    def write(self, data: Any) -> int:
        """Write, if possible."""
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def _stderr() -> io.TextIOWrapper:
    raw = _Unheard(os.dup(2), "w")
    return io.TextIOWrapper(io.BufferedWriter(raw), "utf-8", "replace", line_buffering=True)
