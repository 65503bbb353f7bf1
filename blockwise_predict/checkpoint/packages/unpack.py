"""A package as a folder: a zip archive is unpacked to a temporary one, within bounds."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from blockwise_predict.checkpoint.torchfile import BoundedFile
from blockwise_predict.errors import CheckpointError

# Bytes of a package's files, and how far they may be compressed.
_MAX_BYTES = 16 << 30
_MAX_RATIO = 200
_READ_BYTES = 1 << 20


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """The folder of a package. Raises CheckpointError for an archive that is damaged or a bomb."""
    if path.is_dir():
        yield path
        return
    with TemporaryDirectory() as temporary:
        folder = Path(temporary).resolve()
        try:
            with BoundedFile(path) as handle, zipfile.ZipFile(handle) as archive:
                _check(archive, path)
                for record in archive.infolist():
                    _extract(archive, record, folder)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError) as error:
            raise CheckpointError(f"{path} cannot be unpacked: {error}.") from None
        yield folder


def listed_names(path: Path) -> list[str]:
    """The names of an archive's files; none if it is not one."""
    try:
        with BoundedFile(path) as handle, zipfile.ZipFile(handle) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return []


def _check(archive: zipfile.ZipFile, path: Path) -> None:
    claimed, size = sum(record.file_size for record in archive.infolist()), path.stat().st_size
    if claimed > min(_MAX_BYTES, _MAX_RATIO * size):
        raise CheckpointError(f"{path} was not unpacked: its {size} bytes claim to hold {claimed}.")


def _extract(archive: zipfile.ZipFile, record: zipfile.ZipInfo, folder: Path) -> None:
    target = folder.joinpath(*PurePosixPath(record.filename).parts)
    if record.is_dir() or not target.resolve().is_relative_to(folder):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    # The archive's reader stops at the size that the record claims.
    with archive.open(record) as source, open(target, "xb") as written:
        while block := source.read(_READ_BYTES):
            written.write(block)
