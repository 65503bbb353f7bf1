"""Starts `predict` in processes that have imported torch and the rest already.

To import them takes longer than what most tests have it do. So these processes are not new
interpreters, but forks of one that has imported everything and done nothing; that there is nothing
to a start besides, the tests show that start `predict` as users do.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "blockwise_predict.cli.running",
        "blockwise_predict.run.verification.verify",
        "blockwise_predict.worker.process",
    ]
)


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
        process = _CONTEXT.Process(
            target=_predict, args=(arguments, dict(environment), os.getcwd(), streams, user)
        )
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
    arguments: Sequence[str],
    environment: Mapping[str, str],
    folder: str,
    streams: Sequence[Path],
    user: int | None,
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
    from blockwise_predict.cli import main

    main()
