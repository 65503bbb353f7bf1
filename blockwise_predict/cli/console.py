"""Messages on stderr, for a terminal or for a file."""

from __future__ import annotations

import atexit
import io
import os
import select
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from blockwise_predict.cli.verbosity import Verbosity, show_logs
from blockwise_predict.config.plain import plain
from blockwise_predict.config.steps import Doing, watched_by

# Bytes that are kept for a terminal that takes none now.
MAX_KEPT = 1 << 20
# Bytes that are written at a time: a pseudo-terminal or pipe that takes any takes as many at once.
PIECE = 256


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
    """A file descriptor that never keeps its writer waiting, and discards what cannot be written.

    The terminal may be closed, the disk of a log full, and in `predict run ... | tee log` Ctrl-C
    ends `tee` as well. A run must not abort, and leave its jobs in the queue, because its messages
    cannot be shown. Warnings are recorded in the run's events as well.

    A terminal that is stopped (Ctrl-S), or a paused `less`, would block the threads that print, and
    one of them serves the workers. What it does not take is kept for later, up to `MAX_KEPT` bytes.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w")
        self._kept = bytearray()
        self._lost = 0
        self._sending = threading.Lock()
        self._ready = select.poll()
        self._ready.register(descriptor, select.POLLOUT)
        _OPEN.add(self)

    def write(self, data: Any) -> int:
        """Write what can be written now, and keep the rest."""
        size = memoryview(data).nbytes
        with self._sending:
            self._send(wait_ms=0)
            if len(self._kept) + size > MAX_KEPT:
                self._lost += 1
                return size
            if self._lost:
                self._kept += f"\n({self._lost} messages could not be shown)\n".encode()
                self._lost = 0
            self._kept += data
            self._send(wait_ms=0)
        return size

    def drain(self) -> None:
        """Wait until everything that was kept is written."""
        with self._sending:
            self._send(wait_ms=None)

    def _send(self, wait_ms: int | None) -> None:
        while self._kept and self._ready.poll(wait_ms):
            try:
                sent = super().write(self._kept[:PIECE])
            except OSError:
                self._kept.clear()
                return
            # None: another process has made it non-blocking, and it is full.
            if sent is None:
                return
            del self._kept[:sent]


def drain_messages() -> None:
    """Wait until all messages are written that a stopped terminal did not take at once."""
    for stream in list(_OPEN):
        stream.drain()


_OPEN: weakref.WeakSet[_Unheard] = weakref.WeakSet()
atexit.register(drain_messages)


def _stderr() -> io.TextIOWrapper:
    raw = _Unheard(os.dup(2))
    return io.TextIOWrapper(io.BufferedWriter(raw), "utf-8", "replace", line_buffering=True)
