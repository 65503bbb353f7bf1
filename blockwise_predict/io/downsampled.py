"""Downsampled levels of an output array: arrays beside it, listed in the same OME-NGFF multiscale.

The levels of `affs` are `affs_s1`, `affs_s2`, ...; those of `s0`, `scale0` and `0` are `s1`,
`scale1` and `1`. A level is listed once it is complete. An attribute of each level tells what it is
a level of, so that no other array is taken for one.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from math import ceil
from pathlib import Path
from typing import Literal, get_args

from blockwise_predict.errors import ArrayError
from blockwise_predict.geometry.grid import Lengths
from blockwise_predict.io import image_metadata, ngff, ngff_entries, zarr_metadata
from blockwise_predict.io.array_attributes import array_attributes
from blockwise_predict.io.consolidated import update_consolidated
from blockwise_predict.io.delete import delete_array
from blockwise_predict.io.formats import Format, Node, read_node
from blockwise_predict.io.kvstore import join, name_of, normalize, parents
from blockwise_predict.io.output import OutputArray, open_output
from blockwise_predict.io.spec import OutputSpec

Method = Literal["mean", "mode"]
"""How the voxels of a level are made."""

ATTRIBUTE = "blockwise_predict_level"
# Names of which the number is that of the level.
_NUMBERED = re.compile(r"(s|scale|)0")


@dataclass(frozen=True)
class Level:
    """What a level is: the `number`-th of the array called `of`.

    Each voxel is made by `method` from `factors` voxels (spatial axes, and time) of the one below.
    `build` is different for each array that was ever created for a level.
    """

    of: str
    number: int
    method: Method
    factors: tuple[int, ...]
    build: str = field(default="", compare=False)


def level_path(path: str | Path, number: int) -> str:
    """Where a level of the array at `path` is."""
    location = normalize(path)
    name = name_of(location)
    if match := _NUMBERED.fullmatch(name):
        return join(parents(location)[0], f"{match[1]}{number}")
    return join(parents(location)[0], f"{name}_s{number}")


def check_levels(path: str | Path, format_: Format) -> None:
    """Raise ArrayError if an output (which need not exist) cannot have levels."""
    if format_ == "n5":
        raise ArrayError(
            f"{path} is N5, for which no levels are made. Write zarr: give --format zarr3, and a "
            "container whose name ends in .zarr."
        )
    location = level_path(path, 1)
    node = read_node(location)
    if node is not None and _level_of(node, path) is None:
        raise ArrayError(
            f"{location} exists, and is not a level of {path} that was made here. Rename it, or "
            "choose another name for the output."
        )


def levels_of(path: str | Path) -> list[tuple[str, Level]]:
    """The location of each level of an array, complete or not, and what it is."""
    return list(_levels(path))


def listed_levels(path: str | Path) -> list[tuple[str, Level]]:
    """The levels of an array that are complete: those that its multiscale names."""
    location = normalize(path)
    group = read_node(parents(location)[0])
    if group is None:
        return []
    for entry in ngff.multiscales_of(group.attributes)[1]:
        names = ngff_entries.dataset_paths(entry)
        if names[:1] == [name_of(location)]:
            return [found for found in _levels(path) if name_of(found[0]) in names]
    return []


def create_level(
    output: OutputArray, level: Level, *, shape: tuple[int, ...], voxel_size: Lengths
) -> OutputArray:
    """Create a level of an output, with its type, channels, chunks and shards.

    No viewer sees it yet.
    """
    location = level_path(output.path, level.number)
    spec = OutputSpec(
        path=location,
        format=output.format,
        shape=shape,
        channels=output.channels,
        dtype=output.dtype.name,
        chunk_shape=output.chunk_shape,
        voxel_size=voxel_size,
        offset=output.offset,
        input_voxel_size=voxel_size,
        axis_names=output.axes.names,
        channel_names=output.channel_names or tuple(map(str, range(output.channels))),
        time_unit=output.axes.time_unit,
        shard_shape=_shard_shape(output, shape),
        attributes={ATTRIBUTE: asdict(replace(level, build=uuid.uuid4().hex))},
    )
    zarr_metadata.create_array(location, spec, array_attributes(spec))
    update_consolidated(location)
    return open_output(location)


def _shard_shape(output: OutputArray, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Shards as the output has, but no larger than a level of a shape; None for single chunks."""
    shard = level_write_shape(output.write_shape, output.chunk_shape, shape)
    return shard if shard != output.chunk_shape else None


def level_write_shape(
    write_shape: tuple[int, ...], chunk_shape: tuple[int, ...], level: tuple[int, ...]
) -> tuple[int, ...]:
    """The voxels of a file of a `level` of a shape, from those of the output's files and chunks."""
    sizes = zip(write_shape, chunk_shape, level, strict=True)
    return tuple(min(w, ceil(n / c) * c) for w, c, n in sizes)


def list_level(output: OutputArray, level: Level, factors: tuple[int, ...]) -> None:
    """Add a complete level, of voxels of `factors` of the output's, to the output's multiscale."""
    location = level_path(output.path, level.number)
    image_metadata.add_level(
        _group(output.path),
        name_of(output.path),
        name_of(location),
        output.axes.stored(1, factors),
        level.method,
    )
    update_consolidated(location)


def delete_levels(path: str | Path) -> list[str]:
    """Delete the levels of an array, which stays; returns their locations."""
    found = [location for location, _ in _levels(path)]
    if found:
        image_metadata.remove_levels(_group(path), [name_of(location) for location in found])
    # The last one first: those before it are still found if this is interrupted.
    for location in reversed(found):
        node = read_node(location)
        if node is not None:
            delete_array(node)
        update_consolidated(location)
    return found


def _group(path: str | Path) -> Node:
    location = parents(normalize(path))[0]
    node = read_node(location)
    if node is None:
        raise ArrayError(f"{location} was removed while levels of {path} were made.")
    return node


def _levels(path: str | Path) -> Iterator[tuple[str, Level]]:
    number = 1
    while (node := read_node(level_path(path, number))) is not None:
        level = _level_of(node, path)
        if level is None or level.number != number:
            return
        yield node.location, level
        number += 1


def _level_of(node: Node, path: str | Path) -> Level | None:
    """What an array's attributes say that it is; None unless that is a level of `path`."""
    told = node.attributes.get(ATTRIBUTE)
    if (
        not node.is_array
        or not isinstance(told, dict)
        or told.get("of") != name_of(normalize(path))
    ):
        return None
    try:
        factors = tuple(map(int, told["factors"]))
        number, method = int(told["number"]), told["method"]
        build = str(told.get("build", ""))
    except (KeyError, TypeError, ValueError):
        return None
    if method not in get_args(Method):
        return None
    return Level(told["of"], number, method, factors, build)
