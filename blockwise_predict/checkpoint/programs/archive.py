"""Zip archives of torch, read within bounds, and written anew with the records that were checked.

What is checked must be what is loaded. Two readers may see different records in one zip file, so
torch is given an archive made of the checked records, not the file.
"""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

from blockwise_predict.config.untrusted import MalformedError

# Of all records that are compressed, which are text, and of a single one.
_MAX_TEXT_BYTES = 64 << 20
_MAX_RECORDS = 100_000


def has_record(file: Path, suffix: str) -> bool:
    """Whether a file is a zip archive with a record in its top folder that ends like this."""
    try:
        with zipfile.ZipFile(file) as archive:
            return any(name.partition("/")[2].startswith(suffix) for name in archive.namelist())
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return False


def read_records(file: Path) -> tuple[str, dict[str, bytes]]:
    """The top folder of an archive, and the content of its records by their names within it.

    Raises MalformedError for an archive that is damaged, or would take more memory than its size
    and 64 MiB of texts; and OSError.
    """
    try:
        with open(file, "rb") as handle, zipfile.ZipFile(handle) as archive:
            size = os.fstat(handle.fileno()).st_size
            listed = archive.infolist()
            _check(listed, size)
            records = {record.filename: archive.read(record) for record in listed}
    except (zipfile.BadZipFile, ValueError, NotImplementedError, RuntimeError, EOFError) as error:
        if isinstance(error, MalformedError):
            raise
        raise MalformedError(f"its zip archive is damaged ({error})") from None
    folders = {name.partition("/")[0] for name in records}
    if len(folders) != 1:
        raise MalformedError("its records are not in one folder")
    return folders.pop(), {name.partition("/")[2]: data for name, data in records.items()}


def _check(listed: list[zipfile.ZipInfo], size: int) -> None:
    names = {record.filename for record in listed}
    if len(names) != len(listed) or len(listed) > _MAX_RECORDS:
        raise MalformedError("it has two records of the same name, or too many of them")
    stored = sum(r.file_size for r in listed if r.compress_type == zipfile.ZIP_STORED)
    packed = sum(r.file_size for r in listed if r.compress_type != zipfile.ZIP_STORED)
    if stored > size or packed > _MAX_TEXT_BYTES:
        raise MalformedError(
            f"its records claim {stored} bytes, and {packed} of compressed text; it has {size}"
        )


def written(folder: str, records: dict[str, bytes]) -> io.BytesIO:
    """An archive in memory with these records."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, data in records.items():
            archive.writestr(f"{folder}/{name}", data)
    target.seek(0)
    return target
