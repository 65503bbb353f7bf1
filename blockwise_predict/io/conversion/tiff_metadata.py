"""Voxel sizes that TIFF files state: OME-XML's and ImageJ's.

The resolution of baseline TIFF is not used: it is for printing, often 72 dpi, and knows no z.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from blockwise_predict.geometry.grid import Lengths
from blockwise_predict.io.statement import Statement
from blockwise_predict.io.units import LARGEST, NANOMETERS, SMALLEST

if TYPE_CHECKING:
    from tifffile import TiffFile

Sizes = dict[str, Fraction | None]


def stated_size(tif: TiffFile, file: str) -> Statement:
    """The voxel size of a file, if it states one for each spatial axis; else notes that say why."""
    if tif.is_ome:
        source, sizes = "OME-XML", _ome(tif.ome_metadata or "")
    elif tif.is_imagej:
        source, sizes = "ImageJ's metadata", _imagej(tif)
    else:
        return Statement(file)
    axes = "zyx" if tif.series[0].axes.strip("CST") not in ("YX",) else "yx"
    missing = [axis for axis in axes if not sizes.get(axis)]
    if missing:
        note = f"{source} of {file} has no usable size for {', '.join(missing)}"
        return Statement(file, notes=(note,))
    size: Lengths = tuple(length for axis in axes if (length := sizes[axis]) is not None)
    return Statement(file, size, voxel_size_source=f"{source} of {file}")


def _ome(xml: str) -> Sizes:
    """Sizes of the first image's pixels; micrometres unless a unit is given."""
    try:
        pixels = ElementTree.fromstring(xml).find(".//{*}Pixels")
    except ElementTree.ParseError:
        return {}
    if pixels is None:
        return {}
    found: Sizes = {}
    for axis in "xyz":
        key = f"PhysicalSize{axis.upper()}"
        found[axis] = _length(pixels.get(key, ""), pixels.get(f"{key}Unit", "µm"))
    return found


def _imagej(tif: TiffFile) -> Sizes:
    """Sizes by the unit, the spacing of slices, and the resolution tags: pixels in one unit."""
    metadata = tif.imagej_metadata or {}
    # Written as an escape by Java.
    unit = str(metadata.get("unit", "")).replace("\\u00B5", "µ")
    tags = tif.pages.first.tags
    found: Sizes = {"z": _length(str(metadata.get("spacing", "")).lstrip("-"), unit)}
    for axis, name in (("x", "XResolution"), ("y", "YResolution")):
        tag = tags.get(name)
        pixels, units = tag.value if tag is not None else (0, 1)
        # The tag has six digits or so of the inverse: 4.24 nm would be 4.24000001.
        found[axis] = _length(f"{units / pixels:.6g}" if pixels else "", unit)
    return found


def _length(text: str, unit: str) -> Fraction | None:
    """A positive length in nm; None for anything else, or for a unit such as `pixel`."""
    factor = NANOMETERS.get(unit.lower())
    try:
        value = Fraction(text)
    except (ValueError, ZeroDivisionError):
        return None
    if factor is None or not SMALLEST <= value * factor <= LARGEST:
        return None
    return value * factor
