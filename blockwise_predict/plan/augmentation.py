"""Test-time augmentation of a run: the transformed copies of each tile, and if they are allowed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from funlib.geometry import Coordinate, Roi

from blockwise_predict.architectures import NetworkShapes
from blockwise_predict.engine.channel_moves import (
    channel_kinds,
    channel_moves,
    mirrored_channels,
)
from blockwise_predict.engine.mean import ChannelMove
from blockwise_predict.errors import ConfigError
from blockwise_predict.geometry.blending import build_overlapping
from blockwise_predict.geometry.grid import format_length, format_shape
from blockwise_predict.geometry.lattice import Lattice
from blockwise_predict.geometry.symmetry import Symmetry, symmetries
from blockwise_predict.geometry.tiling import build_lattice
from blockwise_predict.plan.opened import Opened


@dataclass(frozen=True)
class Copy:
    """A transformed copy of each tile: its symmetry along the network's axes; where the channels of
    its prediction go, along the volume's; and which of them change their sign."""

    symmetry: Symmetry
    moves: tuple[ChannelMove, ...]
    mirrored: tuple[tuple[int, float], ...] = ()


def augmented_copies(opened: Opened) -> list[Copy]:
    """The copies that are averaged, the tile itself first.

    Raises ConfigError if the network's channels or axes do not allow a transformation.
    """
    config, model = opened.config, opened.model
    dims, every = model.shapes.dims, tuple(range(len(model.channel_names)))
    slices = len(opened.array.shape) - dims
    if config.augment == "none":
        (identity,) = symmetries("none", dims)
        return [Copy(identity, (ChannelMove((0,) * (slices + dims), every, every),))]
    head, names = model.head_dict() or {}, model.trained_channels
    wanted = every if model.selected is None else model.selected.channels
    kinds = channel_kinds(names, dims, head.get("task"), config.augment_channels, wanted)
    copies = []
    for symmetry in symmetries(config.augment, dims):
        _check_axes(opened, symmetry)
        moves = tuple(_over_volume(move, slices) for move in channel_moves(kinds, symmetry, wanted))
        copies.append(Copy(symmetry, moves, mirrored_channels(kinds, symmetry)))
    return copies


def _over_volume(move: ChannelMove, slices: int) -> ChannelMove:
    return ChannelMove((0,) * slices + move.shift, move.targets, move.sources)


def _check_axes(opened: Opened, symmetry: Symmetry) -> None:
    """Raise ConfigError if a symmetry exchanges axes that differ."""
    if not symmetry.permutes:
        return
    shapes, option = opened.model.shapes, f"--augment {opened.config.augment}"
    sizes = opened.input_grid.voxel_size[-shapes.dims :]
    if symmetry.permuted(sizes) != tuple(sizes):
        raise ConfigError(
            f"{option} exchanges axes whose voxel sizes differ "
            f"({' x '.join(map(format_length, sizes))} nm). {_advice(symmetry)}"
        )
    for name, values in _arithmetic(shapes).items():
        if symmetry.permuted(values) != tuple(values):
            raise ConfigError(
                f"{option} exchanges axes along which the network differs ({name} {values}). "
                f"{_advice(symmetry)}"
            )


def check_turned_tiles(opened: Opened, copies: Sequence[Copy], tile: tuple[int, ...]) -> None:
    """Raise ConfigError if the network cannot take a transformed tile (along its own axes)."""
    for copy in copies:
        turned = copy.symmetry.permuted(tile)
        if opened.model.shapes.valid_input_shape(turned, "nearest") != turned:
            raise ConfigError(
                f"--augment {opened.config.augment}: {format_shape(turned)}, the tile with its "
                "axes exchanged, is not a valid input shape of the network. "
                f"{_advice(copy.symmetry)}"
            )


def _arithmetic(shapes: NetworkShapes) -> dict[str, Sequence[object]]:
    """Shape arithmetic by axis."""
    return {
        "period": shapes.period,
        "scale": shapes.scale,
        "context": shapes.context,
        "voxels lost at a tile's edge": shapes.lost,
        "valid sizes": shapes.valid_input_shape((1000,) * shapes.dims, "nearest"),
    }


def _advice(symmetry: Symmetry) -> str:
    in_plane = symmetry.permutation[:-2] == tuple(range(len(symmetry.permutation) - 2))
    return f"Use --augment {'flips' if in_plane else 'in-plane or flips'}."


def lattice_of_copy(opened: Opened, base: Lattice, copy: Copy) -> Lattice:
    """The lattice of a copy's passes, from that of the tile itself.

    Along a flipped axis a tile's ends change places.
    """
    flipped, config = copy.symmetry.flipped, opened.config
    if not any(flipped):
        return base
    if not config.blend:
        return build_lattice(opened.model.shapes, base.tile_shape, flipped)
    inside = opened.array.shape if config.border == "valid" else None
    return build_overlapping(opened.model.shapes, base.tile_shape, config.overlap, inside, flipped)


def valid_region(opened: Opened, base: Lattice) -> Roi | None:
    """The output voxels for which no copy needs input beyond the volume; None if there are none."""
    found: Roi | None = None
    for copy in augmented_copies(opened):
        region = lattice_of_copy(opened, base, copy).whole_passes(opened.array.shape)
        for move in copy.moves:
            if region is None:
                return None
            shifted = region - Coordinate(move.shift)
            found = shifted if found is None else found.intersect(shifted)
    return None if found is None or found.empty else found


def largest_reach(opened: Opened, copies: Sequence[Copy]) -> tuple[int, ...]:
    """Output voxels by which a tile must exceed a block along each axis, so that it covers the
    block for every copy: for shifted affinities, and for contexts that differ between the ends."""
    shapes, dims = opened.model.shapes, len(opened.array.shape)
    shifts = [move.shift for copy in copies for move in copy.moves]
    low = [max(0, *(-shift[axis] for shift in shifts)) for axis in range(dims)]
    high = [max(0, *(shift[axis] for shift in shifts)) for axis in range(dims)]
    reach = []
    for axis, cell in enumerate(opened.over_volume(_cells(shapes))):
        uneven = axis >= dims - shapes.dims and _is_uneven(shapes, axis - dims + shapes.dims)
        extra = low[axis] + high[axis]
        reach.append(extra + cell - 1 if extra or (uneven and len(copies) > 1) else 0)
    return tuple(reach)


def _cells(shapes: NetworkShapes) -> tuple[int, ...]:
    return tuple(p * u for p, u in zip(shapes.period, shapes.scale, strict=True))


def _is_uneven(shapes: NetworkShapes, axis: int) -> bool:
    low, high = shapes.lost[axis]
    return low != high
