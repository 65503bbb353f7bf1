"""Time limits of jobs, and the warning signal that tells a worker to end before the limit."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from blockwise_predict.errors import ConfigError

# Minimum time for a worker to start and to do a block, plus the minute by which Slurm may send its
# warning too early (seconds).
MIN_WORK_S = 180


@dataclass(frozen=True)
class TimeLimit:
    """A job's time limit `wall`, and how long before it the job is told to end (`warning`), in
    seconds; the options that set them, and the one that would shorten the warning (`remedy`)."""

    wall: int
    warning: int
    wall_words: str
    warning_words: str
    remedy: str


def check_time_limit(limit: TimeLimit | None, warn: Callable[[str], None]) -> None:
    """Raise ConfigError if jobs would be told to end before they begin; warn if it is close."""
    if limit is None or limit.wall >= limit.warning + MIN_WORK_S:
        return
    text = (
        f"{limit.wall_words}: that is {limit.wall} s, and jobs are told to end {limit.warning} s "
        f"before their time is up ({limit.warning_words})"
    )
    remedy = f"Ask for more time, or shorten the warning, for example with {limit.remedy}."
    if limit.wall <= limit.warning:
        raise ConfigError(f"{text}, so they would end before they do anything. {remedy}")
    warn(f"{text}: {limit.wall - limit.warning} s are left to start and work. {remedy}")


def script_words(script: Path, mark: str) -> list[str]:
    """The options in a job script's lines that begin with `mark`, such as `#SBATCH`."""
    words = []
    for line in script.read_text(errors="replace").splitlines():
        if line.startswith(mark):
            try:
                words += shlex.split(line.removeprefix(mark), comments=True)
            except ValueError:
                continue  # The queue itself will report what is wrong with it.
    return words


def last_option(words: Sequence[str], *names: str) -> str | None:
    """The last value of an option, given as `--name=value`, `-n value` or `-nvalue`."""
    found = None
    for index, word in enumerate(words):
        for name in names:
            if word == name:
                found = next(iter(words[index + 1 :]), None)
            elif name.startswith("--") and word.startswith(f"{name}="):
                found = word.partition("=")[2]
            elif not name.startswith("--") and word.startswith(name):
                found = word.removeprefix(name)
    return found


def slurm_seconds(text: str) -> int | None:
    """Seconds of a time in Slurm's notation; None for no limit, or what Slurm would reject."""
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if found is None:
        return None
    days, first, second, third = (int(part or 0) for part in found.groups())
    if found[1] is not None:
        return ((days * 24 + first) * 60 + second) * 60 + third or None
    if found[4] is not None:
        return (first * 60 + second) * 60 + third or None
    # `minutes` or `minutes:seconds`
    return first * 60 + second or None


def lsf_seconds(text: str) -> int | None:
    """Seconds of LSF's `[hour:]minute[/host]`; None for what LSF would reject."""
    found = re.fullmatch(r"(?:(\d+):)?(\d+)(?:/\S+)?", text)
    return None if found is None else (int(found[1] or 0) * 60 + int(found[2])) * 60
