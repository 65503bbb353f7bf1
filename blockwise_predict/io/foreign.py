"""Files of formats that `predict convert` reads, told by their names."""

from __future__ import annotations

import os
import re
from typing import Literal

ForeignKind = Literal["TIFF", "HDF5"]

TIFF_SUFFIXES = (".tif", ".tiff", ".btf", ".tf8", ".lsm")
_HDF5 = re.compile(r"(.*?\.(?:h5|hdf5|hdf|ims))(?:[/:](.*))?", re.IGNORECASE | re.DOTALL)


def foreign_kind(path: str) -> ForeignKind | None:
    """TIFF for a file, a glob pattern or a folder of files; HDF5 for a file or a dataset in one."""
    if (found := hdf5_parts(path)) is not None and os.path.isfile(found[0]):
        return "HDF5"
    if is_tiff_name(path):
        return "TIFF" if is_pattern(path) or os.path.isfile(path) else None
    if os.path.isdir(path) and os.access(path, os.R_OK | os.X_OK):
        with os.scandir(path) as entries:
            return "TIFF" if any(is_tiff_name(entry.name) for entry in entries) else None
    return None


def hdf5_parts(path: str) -> tuple[str, str] | None:
    """The file and the dataset of `file.h5/dataset` or `file.h5:dataset`; None for other paths."""
    found = _HDF5.fullmatch(path)
    return (found[1], (found[2] or "").strip("/")) if found else None


def is_tiff_name(name: str) -> bool:
    """Whether a file is called a TIFF file."""
    return name.lower().endswith(TIFF_SUFFIXES)


def is_pattern(path: str) -> bool:
    """Whether a path stands for several files, and is not itself one."""
    return any(mark in path for mark in "*?[") and not os.path.exists(path)
