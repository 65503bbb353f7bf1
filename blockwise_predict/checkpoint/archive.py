"""Zip archives of torch, read within bounds, and written anew with the records that were checked.

What is checked must be what is loaded. Two readers may see different records in one zip file, so
torch is given an archive made of the checked records, not the file.
"""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

from blockwise_predict.checkpoint.torchfile import BoundedFile
from blockwise_predict.config.untrusted import MalformedError

# Of all compressed records, which are texts, and of records in number.
MAX_TEXT_BYTES = 64 << 20
_MAX_RECORDS = 100_000
_READ_BYTES = 1 << 20
# Where in the original program each line was: not needed, and large.
_DEBUG = ".debug_pkl"
# What zipfile raises for a damaged archive.
_DAMAGE = (zipfile.BadZipFile, ValueError, NotImplementedError, RuntimeError, EOFError)


def has_record(file: Path, *beginnings: str) -> bool:
    """Whether a file is a zip archive with a record in its top folder that begins like this."""
    try:
        with BoundedFile(file) as handle, zipfile.ZipFile(handle) as archive:
            names = {name.partition("/")[2] for name in archive.namelist()[:_MAX_RECORDS]}
    except (OSError, *_DAMAGE):
        return False
    return any(name.startswith(beginnings) for name in names)


def read_records(file: Path, max_text: int = MAX_TEXT_BYTES) -> tuple[str, dict[str, bytes]]:
    """The top folder of an archive, and the content of its records by their names within it.

    Records for debugging are left out. Raises MalformedError for a file that is not an archive, is
    damaged, or would take more memory than its size and `max_text` bytes of compressed texts; and
    OSError if it cannot be read.
    """
    try:
        with BoundedFile(file) as handle, zipfile.ZipFile(handle) as archive:
            listed = [r for r in archive.infolist() if not r.filename.endswith(_DEBUG)]
            folder = _check(listed, os.fstat(handle.fileno()).st_size, max_text)
            return folder, {r.filename.partition("/")[2]: _read(archive, r) for r in listed}
    except MalformedError:
        raise
    except _DAMAGE as error:
        raise MalformedError(f"its zip archive is damaged ({error})") from None


def read_record(file: Path, name: str, max_bytes: int) -> bytes | None:
    """One record of an archive by its name within the top folder; None if there is none.

    Raises MalformedError if it is larger than `max_bytes`, or damaged; OSError if the file cannot
    be read.
    """
    if not has_record(file, name):
        return None
    try:
        with BoundedFile(file) as handle, zipfile.ZipFile(handle) as archive:
            for record in archive.infolist():
                if record.filename.partition("/")[2] == name:
                    if record.file_size > max_bytes:
                        raise MalformedError(f"its {name} claims {record.file_size} bytes")
                    return _read(archive, record)
    except MalformedError:
        raise
    except _DAMAGE as error:
        raise MalformedError(f"its zip archive is damaged ({error})") from None
    return None


def _read(archive: zipfile.ZipFile, record: zipfile.ZipInfo) -> bytes:
    """A record, in steps that are as small as a bounded file's reads."""
    with archive.open(record) as stream:
        return b"".join(iter(lambda: stream.read(_READ_BYTES), b""))


def _check(listed: list[zipfile.ZipInfo], size: int, max_text: int) -> str:
    """The folder that all records are in. Raises MalformedError for what must not be read."""
    if len({r.filename for r in listed}) != len(listed) or len(listed) > _MAX_RECORDS:
        raise MalformedError("it has two records of the same name, or too many records")
    folders = {record.filename.partition("/")[0] for record in listed}
    if len(folders) != 1:
        raise MalformedError("its records are not in one folder")
    stored = sum(r.file_size for r in listed if r.compress_type == zipfile.ZIP_STORED)
    packed = sum(r.file_size for r in listed if r.compress_type != zipfile.ZIP_STORED)
    if stored > size or packed > max_text:
        raise MalformedError(
            f"its records claim {stored} bytes, and {packed} bytes of text; it has {size}"
        )
    return folders.pop()


def written(folder: str, records: dict[str, bytes]) -> io.BytesIO:
    """An archive in memory with these records."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, data in records.items():
            archive.writestr(f"{folder}/{name}", data)
    target.seek(0)
    return target
