"""Which kind of package a path is, if it is one."""

from __future__ import annotations

from pathlib import Path

from blockwise_predict.checkpoint.packages.cellmap import METADATA, read_cellmap
from blockwise_predict.checkpoint.packages.package import PROGRAM_SUFFIXES, Package
from blockwise_predict.checkpoint.recognition import is_program


def find_package(path: Path) -> Package | None:
    """The package at a path, or None for DaCapo's runs and bare weights.

    A package is a folder of cellmap-models, or a program on its own: a file of TorchScript,
    torch.export or ONNX. Raises CheckpointError for a package that is damaged or incomplete.
    """
    if path.is_dir() and (path / METADATA).is_file():
        return read_cellmap(path)
    if path.is_file() and (path.suffix in PROGRAM_SUFFIXES or is_program(path)):
        return Package(path=path, programs=(path,))
    return None
