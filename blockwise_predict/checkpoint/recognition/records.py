"""The records of torch's zip archives, in memory, within the size of the file."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

from blockwise_predict.checkpoint.torchfile import BoundedFile
from blockwise_predict.config.untrusted import MalformedError

# Of all compressed records, which are texts, and of records in number.
_MAX_TEXT_BYTES = 4 << 20
_MAX_RECORDS = 100_000
_READ_BYTES = 1 << 20


def read_records(file: Path) -> dict[str, bytes]:
    """The content of an archive's records, by their names within its top folder.

    Raises MalformedError for a file that is not an archive, is damaged, or claims to contain more
    than it does, and OSError if it cannot be read.
    """
    try:
        with BoundedFile(file) as handle, zipfile.ZipFile(handle) as archive:
            # Where in the original program each line was: of no use here, and large.
            listed = [r for r in archive.infolist() if not r.filename.endswith(".debug_pkl")]
            _check(listed, os.fstat(handle.fileno()).st_size)
            return {record.filename.partition("/")[2]: _read(archive, record) for record in listed}
    except MalformedError:
        raise
    except (zipfile.BadZipFile, ValueError, NotImplementedError, RuntimeError, EOFError) as error:
        raise MalformedError(f"its zip archive is damaged ({error})") from None


def _read(archive: zipfile.ZipFile, record: zipfile.ZipInfo) -> bytes:
    """A record, in steps that are as small as a bounded file's reads."""
    with archive.open(record) as stream:
        return b"".join(iter(lambda: stream.read(_READ_BYTES), b""))


def is_program(file: Path) -> bool:
    """Whether a file is a TorchScript or torch.export archive, by the names of its records."""
    try:
        with BoundedFile(file) as handle, zipfile.ZipFile(handle) as archive:
            names = {name.partition("/")[2] for name in archive.namelist()[:_MAX_RECORDS]}
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return False
    return any(name.startswith(("code/", "models/")) for name in names)


def _check(listed: list[zipfile.ZipInfo], size: int) -> None:
    if len({r.filename for r in listed}) != len(listed) or len(listed) > _MAX_RECORDS:
        raise MalformedError("it has two records of the same name, or too many records")
    if len({record.filename.partition("/")[0] for record in listed}) != 1:
        raise MalformedError("its records are not in one folder")
    stored = sum(r.file_size for r in listed if r.compress_type == zipfile.ZIP_STORED)
    packed = sum(r.file_size for r in listed if r.compress_type != zipfile.ZIP_STORED)
    if stored > size or packed > _MAX_TEXT_BYTES:
        raise MalformedError(
            f"its records claim {stored} bytes, and {packed} bytes of text; it has {size}"
        )
