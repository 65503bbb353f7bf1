"""What only the user can allow, on the command line: that something is executed in their name.

A file that names a program, or allows a checkpoint to run code, may have been written by somebody
else: a configuration that was handed on, the record of a colleague's run. So consent is neither
recorded nor read from a file. It is given with each command, and passed on to the workers that this
command starts, as options of theirs.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path

from blockwise_predict.config.option import option_name
from blockwise_predict.errors import ConfigError

CONSENT = ("unsafe_load_pickle", "factory", "trust_run_dir")
"""Keys of a configuration that are valid for one command only."""

OBSERVING = ("notify", "metrics_port")
"""Keys that say how one command alone is to be observed."""

NOT_RECORDED = (*CONSENT, *OBSERVING)
"""Keys that no record of a run has."""


def refuse_consent_of_file(
    file: str | Path | None, allowed: Iterable[str], programs: Mapping[str, str]
) -> None:
    """Raise ConfigError for what a file says and only the command line may.

    That is, the keys of `CONSENT` that it has `allowed`, and values that can execute `programs`, by
    their keys.
    """
    lines = [
        f"{file}: {key}: a file cannot allow that. To allow it, give {option_name(key)} on the "
        "command line."
        for key in allowed
    ]
    lines += [
        f"{file}: {key} {text!r} can execute programs, which a file cannot allow. To allow it, "
        f"give {as_option(key, text)} on the command line."
        for key, text in programs.items()
    ]
    if lines:
        raise ConfigError("\n".join(lines))


def with_consent(recorded: object, *, unsafe_load_pickle: bool, factory: str | None) -> object:
    """A recorded configuration with this command's consent in place of what the record says.

    What is not a mapping is returned unchanged.
    """
    if not isinstance(recorded, dict):
        return recorded
    kept = {key: value for key, value in recorded.items() if key not in NOT_RECORDED}
    return {**kept, "unsafe_load_pickle": unsafe_load_pickle, "factory": factory}


def recorded_command(command: str) -> str:
    """A command line as it is recorded: without the options that no record has.

    What `--notify` executes may hold a password, and records are shared with the data.
    """
    names = {option_name(key) for key in OBSERVING}
    words = iter(shlex.split(command))
    kept = []
    for word in words:
        if word in names:
            next(words, None)
        elif word.partition("=")[0] not in names:
            kept.append(word)
    return shlex.join(kept)


def as_option(key: str, text: str) -> str:
    """A key and its value as they are typed."""
    # With "=", since a value may begin with a dash.
    return f"{option_name(key)}={shlex.quote(text)}"
