"""Multiscale groups (OME-NGFF, COSEM's N5): which of their levels is read.

The metadata name the levels, so nothing is listed, and a group on a plain web server will do.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blockwise_predict.errors import ArrayError, shown
from blockwise_predict.geometry.grid import Lengths, format_lengths
from blockwise_predict.geometry.voxel_size import at_least_as_fine, same_size
from blockwise_predict.io.formats import Node, read_node
from blockwise_predict.io.given import given_lengths, parsed_lengths
from blockwise_predict.io.kvstore import join, name_of, normalize, parents
from blockwise_predict.io.level import ChosenLevel, TrainedSize
from blockwise_predict.io.ngff import multiscales_of
from blockwise_predict.io.source import InputArray, open_input

if TYPE_CHECKING:
    import zarr

# Maximum number of levels; halved 20 times, a million voxels are one.
MAX_LEVELS = 64


@dataclass(frozen=True)
class _Level:
    """A level that the metadata name: the array, or why it cannot be read."""

    path: str
    array: InputArray | None
    problem: str = ""

    def has(self, voxel_size: Lengths) -> bool:
        """Whether the level can be read and has a voxel size."""
        return self.array is not None and same_size(
            self.array.placement.spatial_voxel_size, voxel_size
        )

    @property
    def text(self) -> str:
        """A line for the user."""
        if self.array is None:
            return self.problem
        size, shape = self.array.placement.spatial_voxel_size, map(str, self.array.shape)
        return f"{format_lengths(size)} nm, {' x '.join(shape)} voxels"


def open_array(
    path: str | Path | zarr.Group,
    *,
    voxel_size: str | Sequence[object] | None = None,
    offset: str | Sequence[object] | None = None,
    model_voxel_size: str | Sequence[object] | None = None,
) -> InputArray:
    """Open the zarr, N5 or neuroglancer precomputed array at a path or URL for reading.

    Of a multiscale group (also a zarr Group) it is the level with the voxel size that a network was
    trained at, `model_voxel_size`. `voxel_size` and `offset` (nm, one for each spatial axis)
    override the array's attributes. All three are numbers, or text, which is exact
    (`("4.24", 4, 4)`, `"4.24,4,4"`).
    Raises ArrayError as `open_input`; for lengths that are not numbers; and, listing the levels of
    a group, if none has that voxel size, or if it is not given.
    """
    given = given_lengths(voxel_size, offset)
    trained = parsed_lengths("model_voxel_size", model_voxel_size)
    return open_source(
        path_of(path),
        None if trained is None else TrainedSize(trained, "model_voxel_size"),
        voxel_size=given.voxel_size,
        offset=given.offset,
        called=given.names,
    )


def path_of(array: str | Path | zarr.Group) -> str | Path:
    """Where a zarr Group is; a path or URL as it is. Raises ArrayError for a group in memory."""
    if isinstance(array, (str, Path)):
        return array
    location = str(array.store_path)
    if not location.startswith("file://"):
        raise ArrayError(
            f"the group {location} is not on a disk: give its URL, or one of its arrays."
        )
    return location


def open_source(
    path: str | Path,
    trained: TrainedSize | None,
    *,
    voxel_size: Sequence[Fraction] | None = None,
    offset: Sequence[Fraction] | None = None,
    chosen: ChosenLevel | None = None,
    resample: bool = False,
    called: tuple[str, str] = ("--voxel-size", "--offset"),
) -> InputArray:
    """Open the array at a path or URL, or the level of a multiscale group with a voxel size.

    `chosen` is the level that an earlier run of the same group has read. `voxel_size`, `offset` and
    `called` are as for `open_input`. To `resample`, another level will do: see `choose_level`.
    Raises ArrayError as `open_input`; and, listing the levels, if none has the voxel size, or if it
    is not known.
    """
    level = chosen or choose_level(path, trained, resample=resample)
    if level is None:
        return open_input(path, voxel_size=voxel_size, offset=offset, called=called)
    if voxel_size is not None:
        raise ArrayError(
            f"{called[0]} is for one array, but {level.group} is a group. Name the level, for "
            f"example {level.location}; or give the network's by --model-voxel-size."
        )
    array = open_input(level.location, offset=offset, called=called)
    array.level = level
    note = f"level {level.path} of {level.group} is read: {level.reason}"
    array.placement = replace(array.placement, notes=(note, *array.placement.notes))
    return array


def choose_level(
    path: str | Path, trained: TrainedSize | None, *, resample: bool = False
) -> ChosenLevel | None:
    """The level to read of the multiscale group at a path; None if there is no such group.

    To `resample`, without a level of the voxel size, it is the coarsest of those that are at least
    as fine along each axis, or else the finest of all.
    """
    group = read_node(normalize(path))
    if group is None or group.is_array:
        return None
    paths = level_paths(group)
    if not paths:
        _check_images(group)
        return None
    if len(paths) == 1:
        return ChosenLevel(group.location, paths[0], "its only level")
    levels = []
    for name in paths:
        levels.append(_open(group, name))
        if trained is not None and levels[-1].has(trained.size):
            reason = f"the network was trained at {trained}"
            return ChosenLevel(group.location, name, reason)
    if resample and trained is not None and (best := _to_resample(levels, trained)) is not None:
        reason = f"none has the network's voxel size, {trained}; {best.text} are resampled to it"
        return ChosenLevel(group.location, best.path, reason)
    example = f"for example --input {join(group.location, paths[0])}"
    listing = "\n".join(f"  {level.path}: {level.text}" for level in levels)
    if trained is None:
        raise ArrayError(
            f"{group.location} has several levels, and the voxel size that the network was trained "
            f"at is not known. The levels are:\n{listing}\nGive that size by --model-voxel-size "
            f"(in Python model_voxel_size), or name the level, {example}."
        )
    raise ArrayError(
        f"{group.location} has no level with the voxel size that the network was trained at, "
        f"{trained}. Its levels are:\n{listing}\nIf the network was trained at another size, "
        "give that by --model-voxel-size. With --resample, voxels of another level are resampled "
        "to that size. To predict from other voxels all the same, name the "
        f"level, {example}, with --allow-voxel-size-mismatch."
    )


def _to_resample(levels: Sequence[_Level], trained: TrainedSize) -> _Level | None:
    """The level to resample from; None if none can be read."""
    sizes = {
        level: level.array.placement.spatial_voxel_size
        for level in levels
        if level.array is not None
    }
    fine = [level for level, size in sizes.items() if at_least_as_fine(size, trained.size)]
    if fine:
        return max(fine, key=lambda level: prod(sizes[level]))
    return min(sizes, key=lambda level: prod(sizes[level]), default=None)


def describe_levels(path: str | Path) -> list[tuple[str, str]] | None:
    """Rows of label and value for each level of a multiscale group; None if there is none."""
    group = read_node(normalize(path))
    paths = [] if group is None or group.is_array else level_paths(group)
    if group is None or not paths:
        return None
    levels = [_open(group, name) for name in paths]
    return [
        ("path", group.location),
        *((f"level {level.path}", level.text) for level in levels),
    ]


def levels_beside(path: str | Path) -> list[InputArray]:
    """The levels, as far as they can be read, of the multiscale group right above an array; none
    if that is no level of it."""
    location = normalize(path)
    group = read_node(parents(location)[0])
    if group is None or group.is_array:
        return []
    try:
        names = level_paths(group)
    except ArrayError:
        return []
    if name_of(location) not in names:
        return []
    levels = (_open(group, name).array for name in names)
    return [level for level in levels if level is not None]


def level_paths(group: Node) -> list[str]:
    """The paths of a group's levels in it, as its metadata name them; none without a multiscale.

    Raises ArrayError if it has several multiscales, of different arrays.
    """
    multiscales = [found for found in multiscales_of(group.attributes)[1] if _paths(found)]
    if not multiscales:
        return []
    first = _paths(multiscales[0])
    if any(set(_paths(other)) != set(first) for other in multiscales[1:]):
        names = "\n".join(
            f"  {shown(found.get('name'))}: {', '.join(_paths(found))}" for found in multiscales
        )
        raise ArrayError(
            f"{group.location} holds {len(multiscales)} multiscale images:\n{names}\nName the "
            f"array to read, for example --input {join(group.location, first[0])}."
        )
    return first[:MAX_LEVELS]


def _open(group: Node, path: str) -> _Level:
    try:
        return _Level(path, open_input(join(group.location, path)))
    except ArrayError as error:
        return _Level(path, None, str(error))


def _paths(multiscale: Any) -> list[str]:
    """The paths of a multiscale's levels; those that lead out of the group are left out."""
    datasets = multiscale.get("datasets") if isinstance(multiscale, dict) else None
    listed = datasets if isinstance(datasets, list) else []
    found = [dataset.get("path") for dataset in listed if isinstance(dataset, dict)]
    paths = [posixpath.normpath(path) for path in found if isinstance(path, str) and path]
    return [path for path in paths if not path.startswith(("/", "..")) and path != "."]


def _check_images(group: Node) -> None:
    """Raise ArrayError for a group that only holds groups of images."""
    ome = group.attributes.get("ome")
    said = {**group.attributes, **(ome if isinstance(ome, dict) else {})}
    labels = said.get("labels")
    if isinstance(labels, list) and labels:
        raise ArrayError(
            f"{group.location} holds the label images {shown(labels)}. Name one, for example "
            f"{join(group.location, str(labels[0]))}."
        )
    if "bioformats2raw.layout" in said:
        raise ArrayError(
            f"{group.location} holds one or more images, in groups that are called 0, 1, ... Name "
            f"one, for example {join(group.location, '0')}."
        )
