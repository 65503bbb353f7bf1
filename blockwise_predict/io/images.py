"""All levels of the image that an array or a multiscale group is, for looking at it."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import prod
from pathlib import Path

from blockwise_predict.errors import ArrayError
from blockwise_predict.geometry.grid import Lengths
from blockwise_predict.io.formats import groups_above, read_node
from blockwise_predict.io.kvstore import join, normalize
from blockwise_predict.io.level_choice import level_paths
from blockwise_predict.io.ngff import multiscales_of
from blockwise_predict.io.ngff_entries import dataset_paths
from blockwise_predict.io.source import InputArray, open_input


@dataclass(frozen=True)
class Image:
    """An array and its downsampled levels, finest first.

    All levels begin at `offset` (nm): the corner of the array that was named. What a level's own
    metadata say is not used, since a translation may be that of a voxel's centre or corner.
    """

    path: str
    levels: tuple[InputArray, ...]
    offset: Lengths

    @property
    def finest(self) -> InputArray:
        """The level with the smallest voxels."""
        return self.levels[0]


def open_image(
    path: str | Path,
    *,
    voxel_size: Sequence[Fraction] | None = None,
    offset: Sequence[Fraction] | None = None,
    cache_bytes: int = 0,
) -> Image:
    """Open the array at a path or URL with all levels of its multiscale, or those of a group.

    With a `voxel_size` (nm) it is the array alone. `offset` and `cache_bytes` are as for
    `open_input`. Levels that cannot be read are left out. Raises ArrayError if there is no array.
    """
    location = normalize(path)
    node = read_node(location)
    names = level_paths(node) if node is not None and not node.is_array else []
    if not names or node is None:
        named = open_input(path, voxel_size=voxel_size, offset=offset, cache_bytes=cache_bytes)
        if voxel_size is not None:
            return Image(named.path, (named,), named.offset)
        return _image(named, _readable(_siblings(named.path), cache_bytes), named.offset)
    found = _readable([join(node.location, name) for name in names], cache_bytes)
    if not found:
        raise ArrayError(f"{location}: none of its levels {', '.join(names)} can be read.")
    named = min(found, key=_size)
    return _image(named, found, named.offset if offset is None else tuple(offset))


def _image(named: InputArray, others: list[InputArray], offset: Lengths) -> Image:
    """The image of an array and those of others that have the same axes and type."""
    same = [
        other
        for other in others
        if (other.dtype, other.channels, other.dims) == (named.dtype, named.channels, named.dims)
    ]
    levels = {level.path: level for level in (*same, named)}.values()
    return Image(named.path, tuple(sorted(levels, key=_size)), offset)


def _size(array: InputArray) -> Fraction:
    return prod(array.voxel_size, start=Fraction(1))


def _readable(locations: Sequence[str], cache_bytes: int) -> list[InputArray]:
    found = []
    for location in locations:
        try:
            found.append(open_input(location, cache_bytes=cache_bytes))
        except ArrayError:
            continue
    return found


def _siblings(location: str) -> list[str]:
    """The locations of all levels of the multiscale that an array is in, if there is one."""
    for group in groups_above(location):
        for multiscale in multiscales_of(group.attributes)[1]:
            paths = [str(path) for path in dataset_paths(multiscale)]
            inside = [posixpath.normpath(path) for path in paths]
            kept = [path for path in inside if not path.startswith(("/", ".."))]
            locations = [join(group.location, path) for path in kept]
            if location in locations:
                return locations
    return []
