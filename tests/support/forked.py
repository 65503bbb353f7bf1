"""Starts `predict` and its workers in processes that have imported torch and the rest already.

To import them takes longer than what most tests have them do. So these processes are not new
interpreters, but forks of one that has imported everything and done nothing; that there is nothing
to a start besides, the tests show that start `predict` as users do.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
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


def predict_forked(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    timeout: float,
    user: int | None = None,
) -> tuple[int, str]:
    """Exit code and output of `predict ARGUMENTS`, also as another user, by number; that one may
    have no right to start the interpreter. Raises TimeoutError after so many seconds."""
    with tempfile.TemporaryDirectory() as folder:
        streams = (Path(folder, "stdout"), Path(folder, "stderr"))
        forkserver.ensure_running()
        server = {name: vars(forkserver._forkserver).get(name) for name in _SERVER}
        given = (arguments, dict(environment), os.getcwd(), streams)
        process = _CONTEXT.Process(target=_predict, args=(server, *given, user))
        process.start()
        process.join(timeout)
        late = process.is_alive()
        process.kill()
        process.join()
        output = "".join(stream.read_text() for stream in streams)
        if late:
            raise TimeoutError(f"predict {arguments} takes more than {timeout} s: {output}")
        assert process.exitcode is not None
        return process.exitcode, output


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
        started = SimpleNamespace(**{**vars(subprocess), "Popen": _start})
        mock.patch("blockwise_predict.fleet.worker_process.subprocess", started).start()
    _main(arguments, environment, folder, streams, user)


def _main(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    folder: str,
    streams: Sequence[Path],
    user: int | None = None,
) -> None:
    for descriptor, stream in zip((1, 2), streams, strict=True):
        os.dup2(os.open(stream, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
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
