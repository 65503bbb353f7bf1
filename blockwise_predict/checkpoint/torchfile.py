"""The containers of torch.save: where the pickle and each tensor's values are in a file.

Since torch 1.6 the container is a zip archive with uncompressed records; before that it was several
pickles followed by the values of one storage after another. Nothing is read before its size has
been checked against the size of the file.
"""

from __future__ import annotations

import io
import os
import struct
import sys
import zipfile
from pathlib import Path
from typing import IO, Any

import torch

from blockwise_predict.checkpoint.pickles import MAX_PICKLE_BYTES, read_pickle
from blockwise_predict.checkpoint.stored import Storage, StoredTensor
from blockwise_predict.config.untrusted import MalformedError

# By storage class.
_KINDS: dict[str, torch.dtype] = {
    "BFloat16Storage": torch.bfloat16,
    "BoolStorage": torch.bool,
    "ByteStorage": torch.uint8,
    "CharStorage": torch.int8,
    "ComplexDoubleStorage": torch.complex128,
    "ComplexFloatStorage": torch.complex64,
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "ShortStorage": torch.int16,
    "UntypedStorage": torch.uint8,
    # Quantised values are skipped, not read, so only their size matters.
    "QInt32Storage": torch.int32,
    "QInt8Storage": torch.int8,
    "QUInt2x4Storage": torch.uint8,
    "QUInt4x2Storage": torch.uint8,
    "QUInt8Storage": torch.uint8,
}
_OWN_DTYPES: dict[str, torch.dtype] = {
    f"torch.{name}": getattr(torch, name)
    for name in (
        *("uint16", "uint32", "uint64"),
        *("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"),
    )
}
_ZIP_MAGIC = b"PK\x03\x04"
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
# An entry of the archive's directory takes about 100 bytes.
_MAX_DIRECTORY_BYTES = 8 << 20
_READ_BYTES = 1 << 20


class TorchFile:
    """A file of torch.save: `content` of its pickle, and the values of its tensors.

    Use it in a `with` statement. Raises MalformedError for a file that is damaged or claims to
    contain more than it does, and OSError if it cannot be read.
    """

    def __init__(self, file: Path) -> None:
        self._handle = BoundedFile(file)
        self._read: dict[str, torch.Tensor] = {}
        try:
            self.size = os.fstat(self._handle.fileno()).st_size
            container = _ZipArchive if zipfile.is_zipfile(self._handle) else _LegacyFile
            self._container = container(self._handle, self.size)
            self.content: Any = self._container.content
        except BaseException:
            self._handle.close()
            raise

    def __enter__(self) -> TorchFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.close()

    def tensor(self, stored: StoredTensor) -> torch.Tensor:
        """The values of a tensor; tensors of the same storage share memory."""
        return strided(stored, self._storage(stored.storage))

    def bytes_of(self, stored: StoredTensor) -> int:
        """Bytes of a tensor's values without shared memory."""
        size = _dtype(stored).itemsize
        for length in stored.shape:
            size *= length
        return size

    def _storage(self, storage: Storage) -> torch.Tensor:
        if storage.key not in self._read:
            size = storage.count * _kind(storage).itemsize
            if size > self.size:
                raise MalformedError(
                    f"storage {storage.key[:20]!r} claims {size} bytes of a file of {self.size}"
                )
            source = self._container.open(storage, size)
            self._read[storage.key] = _read_exactly(source, size)
        return self._read[storage.key]


def strided(stored: StoredTensor, data: torch.Tensor) -> torch.Tensor:
    """A tensor's values in its storage's bytes; raises MalformedError if they are not all there."""
    dtype = _dtype(stored)
    if len(data) % dtype.itemsize:
        raise MalformedError(f"its storage of {len(data)} bytes does not divide into {dtype}")
    values = data.view(dtype)
    _check_within(stored, len(values))
    return torch.as_strided(values, stored.shape, stored.strides, stored.offset)


class BoundedFile(io.FileIO):
    """A file that refuses reads larger than a reasonable zip directory."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Up to `size` bytes."""
        if size is not None and size > _MAX_DIRECTORY_BYTES:
            raise zipfile.BadZipFile(f"its directory has {size} bytes")
        return super().read(size) or b""


class _ZipArchive:
    """A zip archive `NAME/data.pkl`, `NAME/data/KEY`, ..."""

    def __init__(self, handle: IO[bytes], size: int) -> None:
        try:
            self._zip = zipfile.ZipFile(handle)
        except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error) as error:
            raise MalformedError(f"its zip directory is damaged ({error})") from None
        self._records: dict[str, zipfile.ZipInfo] = {}
        for record in self._zip.infolist():
            self._check(record)
            self._records[record.filename] = record
        claimed = sum(record.file_size for record in self._zip.infolist())
        if claimed > size:
            raise MalformedError(f"its records claim {claimed} bytes, the file has {size}")
        pickles = [name for name in self._records if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise MalformedError("it is a zip archive, but not from torch: it has no data.pkl")
        self._folder = pickles[0].removesuffix("data.pkl")
        order = self._folder + "byteorder"
        if order in self._records and self._small(order, 16) != sys.byteorder.encode():
            raise MalformedError("it was saved on a machine with another byte order")
        data = self._small(pickles[0], MAX_PICKLE_BYTES)
        self.content, _ = read_pickle(io.BytesIO(data))

    def _check(self, record: zipfile.ZipInfo) -> None:
        if record.filename in self._records:
            raise MalformedError(f"it has two records {record.filename[:80]!r}")
        if record.compress_type != zipfile.ZIP_STORED or record.file_size != record.compress_size:
            raise MalformedError(
                f"its record {record.filename[:80]!r} is compressed, and torch never compresses"
            )

    def _small(self, name: str, limit: int) -> bytes:
        record = self._records[name]
        if record.file_size > limit:
            raise MalformedError(f"its {name[:80]} has {record.file_size} bytes, above {limit}")
        return _read_exactly(self._open(record), record.file_size).numpy().tobytes()

    def open(self, storage: Storage, size: int) -> IO[bytes]:
        """A storage's bytes; raises MalformedError unless their number is the pickle's."""
        record = self._records.get(f"{self._folder}data/{storage.key}")
        if record is None:
            raise MalformedError(f"its record data/{storage.key[:20]} is missing")
        if record.file_size != size:
            raise MalformedError(
                f"its record data/{storage.key[:20]} has {record.file_size} bytes instead of {size}"
            )
        return self._open(record)

    def _open(self, record: zipfile.ZipInfo) -> IO[bytes]:
        try:
            return self._zip.open(record)
        except (zipfile.BadZipFile, ValueError, RuntimeError, NotImplementedError) as error:
            name = record.filename[:80]
            raise MalformedError(f"its record {name!r} cannot be read ({error})") from None


class _LegacyFile:
    """Five pickles, then each storage as its number of values and the values.

    The pickles are a magic number, a version, the system, the content and the storages' keys.
    """

    def __init__(self, handle: IO[bytes], size: int) -> None:
        self._handle = handle
        handle.seek(0)
        head = io.BytesIO(handle.read(MAX_PICKLE_BYTES))
        if head.getvalue().startswith(_ZIP_MAGIC):
            raise MalformedError(
                "it begins as a zip archive, but its end is missing, as in an incomplete copy"
            )
        if read_pickle(head)[0] != _MAGIC or read_pickle(head)[0] != _PROTOCOL:
            raise MalformedError("it is neither a zip archive of torch nor of its older format")
        system, _ = read_pickle(head)
        if isinstance(system, dict) and system.get("little_endian") is not (
            sys.byteorder == "little"
        ):
            raise MalformedError("it was saved on a machine with another byte order")
        self.content, storages = read_pickle(head)
        keys, _ = read_pickle(head)
        self._places = self._find(keys, storages, head.tell(), size)

    def _find(
        self, keys: Any, storages: dict[str, Storage], place: int, size: int
    ) -> dict[str, int]:
        """The byte at which each storage's values begin."""
        places: dict[str, int] = {}
        for key in keys if isinstance(keys, list) else []:
            storage = storages.get(key) if isinstance(key, str) else None
            if storage is None or key in places:
                raise MalformedError("its list of storages contradicts its pickle")
            self._handle.seek(place)
            count = int.from_bytes(self._handle.read(8), "little", signed=True)
            places[key] = place + 8
            place += 8 + storage.count * _kind(storage).itemsize
            if count != storage.count or place > size:
                raise MalformedError(
                    f"storage {key[:20]!r} at byte {places[key]} is incomplete: it should have "
                    f"{storage.count} values"
                )
        return places

    def open(self, storage: Storage, _size: int) -> IO[bytes]:
        """A storage's bytes; raises MalformedError if the file does not have it."""
        if storage.key not in self._places:
            raise MalformedError(f"storage {storage.key[:20]!r} is missing")
        self._handle.seek(self._places[storage.key])
        return self._handle


def _kind(storage: Storage) -> torch.dtype:
    if storage.kind not in _KINDS:
        raise MalformedError(f"it holds {storage.kind[:40]}, which is not a type of weights")
    return _KINDS[storage.kind]


def _dtype(stored: StoredTensor) -> torch.dtype:
    if stored.dtype is None:
        return _kind(stored.storage)
    if stored.dtype not in _OWN_DTYPES:
        raise MalformedError(f"it holds {stored.dtype[:40]}, which is not a type of weights")
    return _OWN_DTYPES[stored.dtype]


def _check_within(stored: StoredTensor, available: int) -> None:
    """Raise MalformedError if values lie outside the storage or overlap each other."""
    if len(stored.shape) != len(stored.strides):
        raise MalformedError("its shape and its strides differ in their number of axes")
    if 0 in stored.shape:
        return
    axes = sorted(zip(stored.strides, stored.shape, strict=True))
    reach = 1
    for stride, length in axes:
        if length > 1 and stride < reach:
            raise MalformedError(
                f"its shape {stored.shape} with strides {stored.strides} makes values overlap"
            )
        reach += (length - 1) * stride
    if stored.offset + reach > available:
        raise MalformedError(
            f"its shape {stored.shape} needs {stored.offset + reach} values, its storage has "
            f"{available}"
        )


def _read_exactly(source: IO[bytes], size: int) -> torch.Tensor:
    """Bytes in memory of their own, since the file may be overwritten while the program runs."""
    values = torch.empty(size, dtype=torch.uint8)
    view = values.numpy().data
    done = 0
    try:
        while done < size:
            data = source.read(min(_READ_BYTES, size - done))
            if not data:
                raise MalformedError("it is truncated")
            view[done : done + len(data)] = data
            done += len(data)
    except (zipfile.BadZipFile, EOFError) as error:
        raise MalformedError(f"it is damaged: {error}") from None
    return values
