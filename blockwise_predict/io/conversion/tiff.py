"""TIFF stacks: a file of many pages (BigTIFF, OME-TIFF, ImageJ), or a file for each slice."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from blockwise_predict.errors import ArrayError, shortened
from blockwise_predict.io.adapters import Adapted, Window
from blockwise_predict.io.conversion.stack import Stack, in_natural_order, named_axes, reading
from blockwise_predict.io.conversion.tiff_metadata import stated_size
from blockwise_predict.io.foreign import is_pattern, is_tiff_name
from blockwise_predict.io.statement import Statement

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPageSeries

LOOKED_FOR = "PhysicalSizeX, Y and Z (OME), unit, spacing and resolution (ImageJ)"
# Of tifffile's letters; Q and I are those of pages in a row that nothing names.
_AXES = {"T": "t", "Z": "z", "Q": "z", "I": "z", "C": "c", "S": "c", "Y": "y", "X": "x"}
# Of slices in files of their own, kept open; a block has 64.
_OPEN_FILES = 256
_OPENERS = 16


def open_tiff(path: str, axes: Sequence[str] | None) -> Stack:
    """The stack at a path, a folder or a glob pattern; `axes` override what the file says.

    Raises ArrayError if tifffile is not installed, if there is no file, or if it holds several
    images, or files of different shapes.
    """
    try:
        import tifffile  # noqa: F401
    except ImportError:
        raise ArrayError(
            f"{path}: TIFF files need tifffile. Install blockwise-predict[convert]."
        ) from None
    files = _files(path)
    with reading(path):
        return _one(files[0], axes) if len(files) == 1 else _slices(path, files, axes)


def _files(path: str) -> list[str]:
    if os.path.isdir(path):
        found = [os.path.join(path, name) for name in os.listdir(path) if is_tiff_name(name)]
    else:
        found = glob.glob(path) if is_pattern(path) else [path]
    files = [file for file in found if os.path.isfile(file)]
    if not files:
        raise ArrayError(f"{path}: there is no TIFF file.")
    return in_natural_order(files)


def _one(file: str, axes: Sequence[str] | None) -> Stack:
    tif, series = _open(file)
    pixels = _pixels(series)
    size = stated_size(tif, file)
    names = axes or _names(file, series.axes)
    return Stack(
        Adapted(
            name=file,
            library="TIFF",
            shape=tuple(map(int, series.shape)),
            dtype=series.dtype,
            chunk_shape=_chunks(pixels),
            read=lambda window: np.asarray(pixels[window]),
            statements=[size, _axes_statement(file, names, series.shape)],
        ),
        (file,),
        LOOKED_FOR,
    )


def _slices(path: str, files: list[str], axes: Sequence[str] | None) -> Stack:
    """A stack of one 2-D image in each file."""
    first = _open(files[0])[1]
    shape = (len(files), *map(int, first.shape))
    names = axes or ("z", *_names(files[0], first.axes))
    if len(first.shape) > 2 + ("S" in first.axes):
        raise ArrayError(
            f"{path} has {len(files)} files, and {files[0]} is itself a stack ({first.axes}). "
            "Convert one file, or give files of one slice each."
        )

    def check(file: str) -> None:
        with reading(file):
            series = _open(file)[1]
            if (series.shape, series.dtype) != (first.shape, first.dtype):
                raise ArrayError(
                    f"{file} is {_by(series.shape)} of {series.dtype}; {files[0]} is "
                    f"{_by(first.shape)} of {first.dtype}. All slices must be alike."
                )

    with ThreadPoolExecutor(_OPENERS) as pool:
        list(pool.map(check, files))
    slice_pixels = lru_cache(_OPEN_FILES)(lambda index: _pixels(_open(files[index])[1]))

    def read(window: Window) -> np.ndarray[Any, Any]:
        indices = range(*window[0].indices(len(files)))
        return np.stack([np.asarray(slice_pixels(index)[window[1:]]) for index in indices])

    return Stack(
        Adapted(
            name=path,
            library="TIFF",
            shape=shape,
            dtype=first.dtype,
            chunk_shape=(1, *_chunks(slice_pixels(0))),
            read=read,
            statements=[_axes_statement(path, names, shape)],
        ),
        tuple(files),
        "slices in files of their own do not say it",
    )


def _open(file: str) -> tuple[TiffFile, TiffPageSeries]:
    """A file, and the only image in it."""
    from tifffile import TiffFile

    with _logged_errors(file):
        tif = TiffFile(file)
        if len(tif.series) > 1 and tif.series[0].kind == "shaped":
            # Pages that tifffile wrote one by one; otherwise each is an image of its own.
            tif = TiffFile(file, is_shaped=False)
    if len(tif.series) != 1:
        shapes = ", ".join(_by(series.shape) for series in tif.series[:8])
        raise ArrayError(
            f"{file} holds {len(tif.series)} images ({shapes}). Save the one to convert as a file "
            "of its own."
        )
    return tif, tif.series[0]


@contextmanager
def _logged_errors(file: str) -> Iterator[None]:
    """Raise ArrayError for what tifffile only logs: of a truncated file it reads fewer slices."""
    errors: list[str] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: errors.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("tifffile")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
    if errors:
        raise ArrayError(f"cannot read {file}: {shortened(errors[0])}. Is it complete?")


def _pixels(series: TiffPageSeries) -> Any:
    """The full resolution of an image as something that can be sliced."""
    if series.dataoffset is not None and series.keyframe.is_memmappable:
        return series.asarray(out="memmap")
    import zarr

    return zarr.open_array(series.aszarr(level=0), mode="r")


def _chunks(pixels: Any) -> tuple[int, ...]:
    """What is decoded at once; of files that are mapped into memory a row."""
    if isinstance(pixels, np.ndarray):
        return (*(1,) * (pixels.ndim - 1), pixels.shape[-1])
    return tuple(map(int, pixels.chunks))


def _names(file: str, letters: str) -> tuple[str, ...]:
    names = tuple(_AXES.get(letter, letter) for letter in letters)
    if not set(names) <= set(_AXES.values()) or len(set(names)) != len(names):
        raise ArrayError(
            f"{file} has the axes {letters} (as tifffile names them), which are not understood. "
            "Name them by --axes, for example --axes zyx."
        )
    return names


def _axes_statement(path: str, names: Sequence[str], shape: Sequence[int]) -> Statement:
    return Statement(f"the axes of {path}", axes=named_axes(path, names, shape))


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
