"""Command lines that start a worker: with this interpreter, or through the user's command."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence

from blockwise_predict.errors import ConfigError
from blockwise_predict.records import RunDir


def check_command(fleet: str) -> None:
    """Raise ConfigError if this machine does not have the command's program."""
    program = shlex.split(fleet)[0]
    if shutil.which(program) is None:
        raise ConfigError(f"--fleet {fleet!r}: {program}: command not found on this machine.")


def worker_command(run_dir: RunDir, number: int, consent: Sequence[str] = ()) -> list[str]:
    """The command that starts a worker with this interpreter; `consent` holds its options that
    allow what this run's own command line allowed."""
    start = [sys.executable, "-m", "blockwise_predict", "worker", str(run_dir)]
    return [*start, "--number", str(number), *consent]


def filled_in(
    template: str, run_dir: RunDir, number: int, consent: Sequence[str] = ()
) -> list[str]:
    """The user's command with its placeholders filled in; the worker's own command replaces
    `{worker}`, or goes to the end."""
    worker = worker_command(run_dir, number, consent)
    words = []
    for word in shlex.split(template):
        if word == "{worker}":
            words += worker
        else:
            word = word.replace("{worker}", shlex.join(worker))
            word = word.replace("{number}", str(number))
            words.append(word.replace("{run_dir}", str(run_dir)))
    if "{worker}" not in template and "{run_dir}" not in template:
        words += worker
    return words
