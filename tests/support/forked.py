"""Starts `predict` and its workers in processes that have imported torch and the rest already.

To import them takes longer than what most tests have them do. So these processes are not new
interpreters, but forks of one that has imported everything and done nothing; that there is nothing
to a start besides, the tests show that start `predict` as users do.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BufferedWriter
from multiprocessing import forkserver
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "blockwise_predict.cli.running",
        "blockwise_predict.run.verification.verify",
        "blockwise_predict.worker.process",
    ]
)
# What one has to know of the process that is forked (the second from Python 3.14 on).
_SERVER = ("_forkserver_address", "_forkserver_authkey")


class Forked:
    """`predict ARGUMENTS`, also as another user, by number; that one may have no right to start
    the interpreter. It is the part of a `subprocess.Popen` that tests use.

    What it prints goes to files, or to a `terminal`, by the path of its device."""

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        user: int | None = None,
        *,
        terminal: str | None = None,
    ) -> None:
        folder = tempfile.mkdtemp()
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._streams = (Path(folder, "stdout"), Path(folder, "stderr"))
        if terminal is not None:
            self._streams = (Path(terminal), Path(terminal))
        forkserver.ensure_running()
        server = {name: vars(forkserver._forkserver).get(name) for name in _SERVER}
        given = (arguments, dict(environment), os.getcwd(), self._streams)
        self._process = _CONTEXT.Process(target=_predict, args=(server, *given, user))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """Exit code; None as long as it runs."""
        return self._process.exitcode

    @property
    def returncode(self) -> int | None:
        return self.poll()

    def wait(self, timeout: float | None = None) -> int:
        """Exit code at its end. Raises subprocess.TimeoutExpired after so many seconds."""
        self._process.join(timeout)
        code = self.poll()
        if code is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired("predict", timeout, self._said().encode())
        return code

    def communicate(self, timeout: float | None = None) -> tuple[str, None]:
        """What it has printed at its end. Raises subprocess.TimeoutExpired as `wait` does."""
        self.wait(timeout)
        return self._said(), None

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _said(self) -> str:
        return "".join(stream.read_text() for stream in self._streams if stream.exists())


def predict_forked(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    timeout: float,
    user: int | None = None,
) -> tuple[int, str]:
    """Exit code and output of `predict ARGUMENTS`, which is ended after so many seconds."""
    process = Forked(arguments, environment, user)
    try:
        output, _ = process.communicate(timeout)
        return process.wait(), output
    finally:
        process.kill()


@contextmanager
def forked_workers() -> Iterator[None]:
    """Workers that this process itself starts are forks, too."""
    started = SimpleNamespace(**{**vars(subprocess), "Popen": _start})
    with mock.patch("blockwise_predict.fleet.worker_process.subprocess", started):
        yield


def _predict(
    server: dict[str, Any],
    arguments: Sequence[str],
    environment: Mapping[str, str],
    folder: str,
    streams: Sequence[Path],
    user: int | None,
) -> None:
    if user is None:
        # The process that is forked by this one, too. multiprocessing would start another, and
        # another user has no right to it.
        vars(forkserver._forkserver).update(server)
        mock.patch.object(forkserver._forkserver, "ensure_running").start()
        forked_workers().__enter__()
    _main(arguments, environment, folder, streams, user)


def _main(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    folder: str,
    streams: Sequence[Path],
    user: int | None = None,
) -> None:
    for descriptor, stream in zip((1, 2), streams, strict=True):
        os.dup2(os.open(stream, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOCTTY), descriptor)
    if os.isatty(2):
        # Those of the process that was forked take it for a file.
        sys.stdout = sys.__stdout__ = open(1, "w", closefd=False)  # noqa: SIM115
        sys.stderr = sys.__stderr__ = open(2, "w", closefd=False)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    if user is not None:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
    sys.argv = ["predict", *arguments]
    sys.orig_argv = [sys.executable, "-m", "blockwise_predict", *arguments]
    # What a new interpreter would run before all else (tests/support/sabotage.py).
    startup = Path(environment.get("PYTHONPATH", ""), "sitecustomize.py")
    if startup.is_file():
        runpy.run_path(str(startup))
    from blockwise_predict.cli import main

    main()


def _start(command: Sequence[str], **options: Any) -> subprocess.Popen[bytes] | _ForkedWorker:
    """What `subprocess.Popen` does, but a worker is a fork."""
    start = [sys.executable, "-m", "blockwise_predict"]
    if list(command[:3]) != start:
        return subprocess.Popen(command, **options)
    return _ForkedWorker(command[3:], options["env"], options["stdout"])


class _ForkedWorker:
    """The part of a `subprocess.Popen` that fleets use, of a worker in a session of its own."""

    def __init__(
        self, arguments: Sequence[str], environment: Mapping[str, str], log: BufferedWriter
    ) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{log.fileno()}"))
        self._process = _CONTEXT.Process(
            target=_work, args=(arguments, dict(environment), os.getcwd(), path), daemon=True
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid
        # A signal to the session must reach it.
        while self.poll() is None and os.getsid(self.pid) != self.pid:
            time.sleep(0.001)

    def poll(self) -> int | None:
        return self._process.exitcode

    @property
    def returncode(self) -> int | None:
        return self.poll()


def _work(arguments: Sequence[str], environment: Mapping[str, str], folder: str, log: Path) -> None:
    os.setsid()
    _main(arguments, environment, folder, (log, log))
