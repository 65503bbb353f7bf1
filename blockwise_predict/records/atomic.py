"""Records as files: small ones that are replaced atomically, and files of lines, of which a kill
may truncate the last."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from blockwise_predict.config.untrusted import MAX_JSON_BYTES, MalformedError, parse_json
from blockwise_predict.errors import RunStateError
from blockwise_predict.records.files import FILE_MODE, open_record

# Limits on what is read into memory; our own records are smaller.
MAX_RECORD_BYTES, MAX_LINE_BYTES = MAX_JSON_BYTES, 1 << 20


def write_atomically(file: Path, text: str, mode: int = FILE_MODE, *, durable: bool = True) -> None:
    """Replace a file's content; if `durable`, a power cut leaves the old or the new one."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as handle:
            handle.write(text)
            handle.flush()
            if durable:
                os.fsync(handle.fileno())
        os.replace(temporary, file)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(file)) from None
    if durable:
        sync_folder(file.parent)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk: only then is a new name safe."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_record(file: Path, *, trusted: bool = False) -> dict[str, Any]:
    """Read a JSON object of the run directory.

    Raises FileNotFoundError, DamagedRecordError if it is truncated or not JSON, and as
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
    """The error for a record that cannot be used."""
    return DamagedRecordError(
        f"{file} is damaged ({why}). It is written atomically, so something else has truncated or "
        "changed it: restore it from a backup, or start afresh with --overwrite."
    )


def append_line(file: Path, line: str, *, trusted: bool = False) -> None:
    """Append a line; a truncated one before it stays a line of its own."""
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
    with open(open_record(file, flags, trusted=trusted), "ab+") as handle:
        if handle.tell():
            handle.seek(-1, os.SEEK_END)
            if handle.read(1) != b"\n":
                line = "\n" + line
        handle.write(line.encode() + b"\n")


def json_lines(file: Path, *, trusted: bool = False) -> Iterator[dict[str, Any]]:
    """The JSON objects of a file's lines; none if there is no file.

    Other lines are skipped: a kill may have truncated them.
    """
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
