"""The names of a program's channels, which torch.export keeps beside the graph as an extra file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from blockwise_predict.checkpoint.archive import read_record
from blockwise_predict.config.untrusted import MalformedError, parse_json
from blockwise_predict.errors import CheckpointError, shown

_FILE = "channel_names.json"
# Where torch puts extra files in its archives.
_RECORD = f"extra/{_FILE}"
_MAX_BYTES = 1 << 20


def names_file(names: Sequence[str]) -> dict[str, str]:
    """The extra file, and its content, that holds the names of a program's channels."""
    return {_FILE: json.dumps(list(names))}


def names_in(file: Path) -> tuple[str, ...] | None:
    """The names of a program's channels, if its file has them.

    Raises CheckpointError if they are not a list of different texts.
    """
    try:
        data = read_record(file, _RECORD, _MAX_BYTES)
        names = None if data is None else parse_json(data)
    except (MalformedError, OSError) as error:
        raise CheckpointError(f"{file}: {_RECORD} cannot be read: {error}.") from None
    if names is None:
        return None
    if not (
        isinstance(names, list)
        and all(isinstance(name, str) and name for name in names)
        and len({*names}) == len(names) > 0
    ):
        raise CheckpointError(
            f"{file}: {_RECORD} must list the names of the channels, not {shown(names)}."
        )
    return tuple(names)
