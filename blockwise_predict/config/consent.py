"""What only the user can allow, on the command line: that something is executed in their name.

A file that names a program, or says that a checkpoint may run code, may be somebody else's: a
configuration that was handed on, the record of a colleague's run. So consent is written nowhere
and read from no file. It comes with the command, each time, and goes to the workers that this
command starts as options on theirs.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path

from blockwise_predict.errors import ConfigError

CONSENT = ("unsafe_load_pickle", "trust_run_dir")
"""Keys of a configuration that hold for one command only."""


def refuse_consent_of_file(
    file: str | Path | None, allowed: Iterable[str], programs: Mapping[str, str]
) -> None:
    """Raise ConfigError for what a file says that only the command line can.

    That is, keys that it has `allowed`, and keys whose values can execute `programs`.
    """
    lines = [
        f"{file}: {key}: a file cannot allow that. If you do, give {_option(key)} on the command "
        "line."
        for key in allowed
    ]
    lines += [
        f"{file}: {key} {text!r} can execute programs, which a file cannot decide. If you want "
        f"that, give {as_option(key, text)} on the command line."
        for key, text in programs.items()
    ]
    if lines:
        raise ConfigError("\n".join(lines))


def with_consent(recorded: object, *, unsafe_load_pickle: bool) -> object:
    """A recorded configuration, if it is one, with this command's consent, whatever it says."""
    if not isinstance(recorded, dict):
        return recorded
    kept = {key: value for key, value in recorded.items() if key not in CONSENT}
    return {**kept, "unsafe_load_pickle": unsafe_load_pickle}


def as_option(key: str, text: str) -> str:
    """A key and its value as they are typed."""
    # With =, since a value may begin with a dash.
    return f"{_option(key)}={shlex.quote(text)}"


def _option(key: str) -> str:
    return f"--{key.replace('_', '-')}"
