"""The words that start a worker: with this interpreter, or by a command of the user's."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence

from blockwise_predict.errors import ConfigError
from blockwise_predict.records import RunDir


def check_command(fleet: str) -> None:
    """Raise ConfigError for a command that this machine does not have."""
    program = shlex.split(fleet)[0]
    if shutil.which(program) is None:
        raise ConfigError(f"--fleet {fleet!r}: {program} is no command of this machine.")


def worker_command(run_dir: RunDir, number: int, consent: Sequence[str] = ()) -> list[str]:
    """The words that start a worker, with this interpreter, and what this command line allows."""
    start = [sys.executable, "-m", "blockwise_predict", "worker", str(run_dir)]
    return [*start, "--number", str(number), *consent]


def filled_in(
    template: str, run_dir: RunDir, number: int, consent: Sequence[str] = ()
) -> list[str]:
    """A command's words; the worker's are put for `{worker}`, or at the end."""
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
