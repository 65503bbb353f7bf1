"""Small files that are written whole, and files of lines of which a kill may cut the last."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from blockwise_predict.config.untrusted import MAX_JSON_BYTES, MalformedError, parse_json
from blockwise_predict.errors import RunStateError
from blockwise_predict.records.files import FILE_MODE, open_record

# Larger ones are not ours, and would only fill the memory.
MAX_RECORD_BYTES, MAX_LINE_BYTES = MAX_JSON_BYTES, 1 << 20


def write_atomically(file: Path, text: str, mode: int = FILE_MODE) -> None:
    """Replace a file's content; also after a power cut it is the old or the new one."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as handle:
            handle.write(text)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, file)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(file)) from None
    sync_folder(file.parent)


def sync_folder(folder: Path) -> None:
    """Bring a folder's entries to the disk: a new name is safe only then."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_record(file: Path, *, trusted: bool = False) -> dict[str, Any]:
    """A JSON object of the run directory.

    Raises FileNotFoundError, RunStateError for one that is cut short or no JSON, and as
    `open_record` does.
    """
    with open(open_record(file, os.O_RDONLY, trusted=trusted), "rb") as handle:
        data = handle.read(MAX_RECORD_BYTES + 1)
    if len(data) > MAX_RECORD_BYTES:
        raise damaged(file, f"larger than {MAX_RECORD_BYTES >> 20} MiB")
    try:
        value = parse_json(data.decode(errors="replace"))
    except MalformedError as error:
        raise damaged(file, f"not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise damaged(file, f"a JSON {type(value).__name__}, not an object")
    return value


class DamagedRecordError(RunStateError):
    """A record that cannot be used."""


def damaged(file: Path, why: str) -> DamagedRecordError:
    """What the user is told of a record that cannot be used."""
    return DamagedRecordError(
        f"{file} is damaged ({why}). It is written in one piece, so something else cut or changed "
        "it: put it back from a backup, or start afresh with --overwrite."
    )


def append_line(file: Path, line: str, *, trusted: bool = False) -> None:
    """Append a line; one before it that a kill cut short stays a line of its own."""
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
    with open(open_record(file, flags, trusted=trusted), "ab+") as handle:
        if handle.tell():
            handle.seek(-1, os.SEEK_END)
            if handle.read(1) != b"\n":
                line = "\n" + line
        handle.write(line.encode() + b"\n")


def json_lines(file: Path, *, trusted: bool = False) -> Iterator[dict[str, Any]]:
    """The objects of a file's lines; none if there is no file. What is no object is left out: a
    kill may have cut it short."""
    try:
        descriptor = open_record(file, os.O_RDONLY, trusted=trusted)
    except FileNotFoundError:
        return
    with open(descriptor, "rb") as handle:
        while line := handle.readline(MAX_LINE_BYTES):
            try:
                value = parse_json(line.decode(errors="replace"))
            except MalformedError:
                continue
            if isinstance(value, dict):
                yield value
