"""Which kind of package a path is, if it is one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from blockwise_predict.checkpoint.archive import has_record
from blockwise_predict.checkpoint.packages.bioimage import (
    description_in,
    read_bioimage,
)
from blockwise_predict.checkpoint.packages.cellmap import METADATA, read_cellmap
from blockwise_predict.checkpoint.packages.dacapo import DESCRIPTIONS
from blockwise_predict.checkpoint.packages.package import PROGRAM_SUFFIXES, Package
from blockwise_predict.checkpoint.packages.unpack import listed_names, unpacked
from blockwise_predict.checkpoint.program_names import names_in

# Records of TorchScript and of torch.export archives.
_PROGRAMS = ("code/", "models/")


@contextmanager
def find_package(path: Path) -> Iterator[Package | None]:
    """The package at a path, or None for DaCapo's runs and bare weights.

    A package is a folder of cellmap-models, a bioimage.io package (a folder or a zip archive), or a
    program on its own: a file of TorchScript, torch.export or ONNX. Its files are there while it is
    open. Raises CheckpointError for a package that is damaged or incomplete.
    """
    match _kind(path):
        case "cellmap":
            yield read_cellmap(path)
        case "bioimage":
            with unpacked(path) as folder:
                yield read_bioimage(folder, path)
        case "program":
            yield Package(path=path, programs=(path,), channel_names=names_in(path))
        case None:
            yield None


def _kind(path: Path) -> Literal["cellmap", "bioimage", "program"] | None:
    try:
        if path.is_dir():
            if (path / METADATA).is_file():
                return "cellmap"
            return None if description_in(path) is None else "bioimage"
        if path.suffix == ".zip":
            return "bioimage" if set(DESCRIPTIONS) & set(listed_names(path)) else None
        is_one = path.is_file() and (
            path.suffix in PROGRAM_SUFFIXES or has_record(path, *_PROGRAMS)
        )
    except OSError:
        # It cannot be read: opening it as bare weights says why.
        return None
    return "program" if is_one else None
