"""neuroglancer's precomputed volumes: one `info` file for all scales, each named by its key.

https://github.com/google/neuroglancer/blob/master/src/datasource/precomputed/volume.md
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from blockwise_predict.errors import ArrayError, shown
from blockwise_predict.geometry.grid import format_lengths
from blockwise_predict.io.kvstore import Json, is_local, join, parents, read_json, root_and_parts
from blockwise_predict.io.statement import CHANNEL, SPACE, Axes, Statement
from blockwise_predict.io.units import exact_numbers

INFO = "info"
LOOKED_FOR = "resolution and voxel_offset of the scale (neuroglancer precomputed)"
# How many folders above a scale the info may be: keys are names, seldom paths.
_MAX_PARENTS = 3
_LISTED = 12


@dataclass(frozen=True)
class Scale:
    """A scale of the volume at `root`: its entry in `info`, which is also given without scales."""

    root: str
    key: str
    info: Json
    entry: Json

    @property
    def location(self) -> str:
        """Where the chunks of the scale are."""
        return join(self.root, _path(self.key))

    @property
    def metadata(self) -> Json:
        """All that says how the scale is stored."""
        return {**self.info, "scale": self.entry}


def find_scale(location: str) -> Scale | None:
    """The scale at a location: that of a key, or the only one of a volume; None if there is none.

    Raises ArrayError, listing the scales, for a volume with several.
    """
    if (info := _read_info(location)) is not None:
        scales = _scales(location, info)
        if len(scales) == 1:
            return scales[0]
        listed = ", ".join(_described(scale) for scale in scales[:_LISTED])
        raise ArrayError(
            f"{location} is a neuroglancer volume with {len(scales)} scales. Name one: "
            f"{listed or 'it has none'}."
        )
    parts = root_and_parts(location)[1]
    for root in parents(location)[:_MAX_PARENTS]:
        if (info := _read_info(root)) is not None:
            own = "/".join(parts[len(root_and_parts(root)[1]) :])
            found = (s for s in _scales(root, info) if _path(s.key) == own)
            return next(found, None)
    return None


def check_chunks(scale: Scale) -> None:
    """Raise ArrayError for chunks that CloudVolume has compressed on a disk, in files of their own
    names: tensorstore would find none of them. Web servers hand them out decompressed.
    """
    if not is_local(scale.location) or not os.path.isdir(scale.location):
        return
    with os.scandir(scale.location) as entries:
        first = next(entries, None)
    suffix = os.path.splitext(first.name)[1] if first is not None else ""
    if suffix in (".gz", ".br", ".zstd"):
        raise ArrayError(
            f"{scale.location}: its files end in {suffix}, as CloudVolume writes them, which "
            "cannot be read. Decompress them, or write the volume with compress=False."
        )


def root_of(location: str, key: str) -> str:
    """Where the info is of a scale at a location."""
    return location.removesuffix(f"/{_path(key)}")


def _path(key: str) -> str:
    return "/".join(part for part in key.split("/") if part)


def _read_info(location: str) -> Json | None:
    try:
        info = read_json(location, INFO)
    except ArrayError:
        # Any file may be called so. What cannot be reached has been tried before, for zarr.
        return None
    return info if info is not None and isinstance(info.get("scales"), list) else None


def _scales(root: str, info: Json) -> list[Scale]:
    rest = {key: value for key, value in info.items() if key != "scales"}
    return [
        Scale(root, scale["key"], rest, scale)
        for scale in info["scales"]
        if isinstance(scale, dict) and isinstance(scale.get("key"), str) and scale["key"]
    ]


def _described(scale: Scale) -> str:
    try:
        size = exact_numbers(scale.entry.get("resolution"), "resolution")[::-1]
    except ArrayError:
        return scale.location
    return f"{scale.location} ({format_lengths(size)} nm)"


def read_statements(location: str, metadata: Json, ndim: int) -> list[Statement]:
    """What the scale says: nanometres, x first, and the voxel at which it begins."""
    scale = metadata["scale"]
    what = f"'resolution' of scale {shown(scale.get('key'))} in {INFO}"
    size = exact_numbers(scale.get("resolution"), what)[::-1]
    begin = exact_numbers(
        scale.get("voxel_offset", [0] * len(size)), what.replace("resolution", "voxel_offset")
    )[::-1]
    if len(size) != len(begin):
        raise ArrayError(f"{location}: {what} and voxel_offset are not of one length.")
    channel = ndim > len(size)
    return [
        Statement(
            source=f"{INFO} of {location}",
            voxel_size=size,
            offset=tuple(voxels * length for voxels, length in zip(begin, size, strict=True)),
            voxel_size_source=what,
            offset_source=what.replace("resolution", "voxel_offset"),
            axes=Axes(
                ("c",) * channel + ("z", "y", "x"), (CHANNEL,) * channel + (SPACE, SPACE, SPACE)
            ),
        )
    ]
