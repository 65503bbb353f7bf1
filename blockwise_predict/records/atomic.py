"""Small files that are written whole, and files of lines of which a kill may cut the last."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from blockwise_predict.errors import RunStateError


def write_atomically(file: Path, text: str, mode: int = 0o644) -> None:
    """Replace a file's content; also after a power cut it is the old or the new one."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(temporary, file)
    sync_folder(file.parent)


def sync_folder(folder: Path) -> None:
    """Bring a folder's entries to the disk: a new name is safe only then."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_record(file: Path) -> dict[str, Any]:
    """A JSON object of the run directory.

    Raises FileNotFoundError, and RunStateError for one that is cut short or no JSON.
    """
    text = file.read_text(errors="replace")
    try:
        value = json.loads(text)
    except ValueError as error:
        raise damaged(file, f"not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise damaged(file, f"a JSON {type(value).__name__}, not an object")
    return value


def damaged(file: Path, why: str) -> RunStateError:
    """What the user is told of a record that cannot be used."""
    return RunStateError(
        f"{file} is damaged ({why}). It is written in one piece, so something else cut or changed "
        "it: put it back from a backup, or start afresh with --overwrite."
    )


def append_line(file: Path, line: str) -> None:
    """Append a line; one before it that a kill cut short stays a line of its own."""
    with open(file, "ab+") as handle:
        if handle.tell():
            handle.seek(-1, os.SEEK_END)
            if handle.read(1) != b"\n":
                line = "\n" + line
        handle.write(line.encode() + b"\n")


def json_lines(file: Path) -> Iterator[Any]:
    """The values of a file's lines; none if there is no file. What a kill cut short is left out."""
    for line in file.read_text().splitlines() if file.exists() else []:
        try:
            value = json.loads(line)
        except json.JSONDecodeError:
            continue
        yield value
