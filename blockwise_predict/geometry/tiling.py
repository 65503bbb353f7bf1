"""From a network's shape arithmetic to a lattice, and the choice of the tile."""

from __future__ import annotations

from collections.abc import Sequence

from blockwise_predict.architectures import UNetShapes
from blockwise_predict.errors import GeometryError
from blockwise_predict.geometry.grid import format_shape
from blockwise_predict.geometry.lattice import AxisLattice, Lattice


def build_lattice(shapes: UNetShapes, tile_shape: Sequence[int]) -> Lattice:
    """The lattice of passes over `tile_shape` input voxels.

    `tile_shape` may have one axis more than the network: a 2-D network over the slices of a
    volume, which it does not see at once. Raises GeometryError if the tile is too small to step.
    """
    slices = len(tile_shape) - shapes.dims
    axes = [AxisLattice(1, 1, 0, 0, 1, size) for size in tile_shape[:slices]]
    axes += [_axis_lattice(shapes, axis, tile_shape[slices + axis]) for axis in range(shapes.dims)]
    return Lattice(tuple(axes))


def _axis_lattice(shapes: UNetShapes, axis: int, size: int) -> AxisLattice:
    period, scale = shapes.period[axis], shapes.scale[axis]
    low, high = lost_voxels(shapes, axis)
    cell = period * scale
    kept = (size * scale - low - high) // cell * cell
    if kept < cell:
        raise GeometryError(
            f"a tile of {size} input voxels along axis {axis} gives "
            f"{max(0, size * scale - low - high)} usable output voxels, fewer than the network's "
            f"period of {cell}. Use at least {_size_for(shapes, axis, cell)} in --tile-shape."
        )
    step = cell if shapes.equivariant else kept
    trim = low - shapes.context[axis] // 2
    return AxisLattice(period, scale, low, high, step, size, not shapes.equivariant, trim)


def lost_voxels(shapes: UNetShapes, axis: int) -> tuple[int, int]:
    """Output voxels lost at the low and the high side of a pass, along one of the net's axes.

    With same padding that is what its zeros can reach, rounded up to the period so that pooling
    windows stay where a single pass over the volume has them.
    """
    margin = shapes.receptive_margin[axis]
    if margin:
        cell = shapes.period[axis] * shapes.scale[axis]
        lost = -(-margin // cell) * cell
        return lost, lost
    low = shapes.context[axis] // 2
    return low, shapes.context[axis] - low


def _size_for(shapes: UNetShapes, axis: int, output: int) -> int:
    """Smallest valid input size along one axis that gives `output` usable output voxels."""
    low, high = lost_voxels(shapes, axis)
    wish = [1] * shapes.dims
    wish[axis] = -(-(output + low + high) // shapes.scale[axis])
    return shapes.valid_input_shape(tuple(wish), "up")[axis]


def smallest_tile(shapes: UNetShapes) -> tuple[int, ...]:
    """Smallest input shape that still steps by a whole period."""
    return tuple(
        _size_for(shapes, axis, shapes.period[axis] * shapes.scale[axis])
        for axis in range(shapes.dims)
    )


def check_tile(wanted: tuple[int, ...], shapes: UNetShapes, volume_dims: int) -> None:
    """Raise GeometryError with the nearest shape that works if the network can't take the tile."""
    if len(wanted) != volume_dims:
        raise GeometryError(
            f"--tile-shape {format_shape(wanted)} has {len(wanted)} axes, "
            f"the volume has {volume_dims}."
        )
    slices = volume_dims - shapes.dims
    valid = shapes.valid_input_shape(wanted[slices:], "nearest")
    valid = tuple(max(v, m) for v, m in zip(valid, smallest_tile(shapes), strict=True))
    if valid != wanted[slices:]:
        raise GeometryError(
            f"--tile-shape {format_shape(wanted)}: the network cannot take this input shape. "
            f"Nearest that it can: {format_shape(wanted[:slices] + valid)}."
        )


def fixed_tile(shapes: UNetShapes, eval_shape: Sequence[int]) -> tuple[int, ...]:
    """The tile of a network that is not equivariant: the shape DaCapo evaluates it at, if valid."""
    valid = shapes.valid_input_shape(tuple(eval_shape), "nearest")
    return tuple(max(v, s) for v, s in zip(valid, smallest_tile(shapes), strict=True))


def fixed_tile_warnings(shapes: UNetShapes, lattice: Lattice) -> list[str]:
    """What a user of a network that is not translation-equivariant must know; else nothing."""
    if shapes.equivariant:
        return []
    tile = format_shape(lattice.tile_shape[-shapes.dims :])
    if any(shapes.receptive_margin):
        lost = format_shape([lost_voxels(shapes, axis)[0] for axis in range(shapes.dims)])
        return [
            "padding 'same' puts zeros around every tile. The outer "
            f"{lost} output voxels of each tile are dropped, so that no seams appear; at the "
            f"volume's border the --border fill stands instead of zeros. One tile shape ({tile}) "
            "on a fixed lattice is used throughout."
        ]
    stride = format_shape(lattice.stride[-shapes.dims :])
    return [
        "attention makes this network's output depend on where its tile lies. One tile shape "
        f"({tile} input voxels) on a fixed lattice is used throughout, so that every voxel has one "
        "value whatever the ROI and the blocks; another --tile-shape gives other values, and faint "
        f"seams can stand every {stride} voxels."
    ]
