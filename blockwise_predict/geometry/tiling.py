"""The lattice of a network for a tile shape, and checks of the tile shape."""

from __future__ import annotations

from collections.abc import Sequence

from blockwise_predict.architectures import NetworkShapes, UNetShapes
from blockwise_predict.errors import GeometryError
from blockwise_predict.geometry.grid import format_shape
from blockwise_predict.geometry.lattice import AxisLattice, Lattice


def build_lattice(
    shapes: NetworkShapes, tile_shape: Sequence[int], flipped: Sequence[bool] = ()
) -> Lattice:
    """The lattice of passes over tiles of `tile_shape` input voxels.

    `tile_shape` has more axes than a network that is applied to each slice, or frame, of a volume.
    `flipped` says for each of the network's axes if the network sees it reversed.

    Raises GeometryError if the tile's output is smaller than the network's period.
    """
    slices = len(tile_shape) - shapes.dims
    axes = [AxisLattice(1, 1, 0, 0, 1, size) for size in tile_shape[:slices]]
    for axis in range(shapes.dims):
        lattice = _axis_lattice(shapes, axis, tile_shape[slices + axis])
        axes.append(lattice.reversed() if flipped and flipped[axis] else lattice)
    return Lattice(tuple(axes))


def _axis_lattice(shapes: NetworkShapes, axis: int, size: int) -> AxisLattice:
    period, scale = shapes.period[axis], shapes.scale[axis]
    low, high = shapes.lost[axis]
    cell = period * scale
    kept = (size * scale - low - high) // cell * cell
    if kept < cell:
        raise GeometryError(
            f"a tile of {size} input voxels along axis {axis} gives "
            f"{max(0, size * scale - low - high)} usable output voxels, less than the network's "
            f"period of {cell}. Use at least {_size_for(shapes, axis, cell)} in --tile-shape."
        )
    step = cell if shapes.equivariant else kept
    fixed, trim = not shapes.equivariant, low - shapes.context[axis] // 2
    trim_high = low + high - shapes.context[axis] - trim
    return AxisLattice(period, scale, low, high, step, size, fixed, trim, trim_high)


def _size_for(shapes: NetworkShapes, axis: int, output: int) -> int:
    """Smallest valid input size along one axis with `output` usable output voxels."""
    low, high = shapes.lost[axis]
    wanted = [1] * shapes.dims
    wanted[axis] = -(-(output + low + high) // shapes.scale[axis])
    return shapes.valid_input_shape(tuple(wanted), "up")[axis]


def smallest_tile(shapes: NetworkShapes) -> tuple[int, ...]:
    """Smallest input shape with a whole period of output along every axis."""
    return tuple(
        _size_for(shapes, axis, shapes.period[axis] * shapes.scale[axis])
        for axis in range(shapes.dims)
    )


def check_tile(
    wanted: tuple[int, ...],
    shapes: NetworkShapes,
    volume_dims: int,
    smallest: tuple[int, ...] | None = None,
) -> None:
    """Raise GeometryError, with the nearest valid shape, if the network cannot take the tile.

    `smallest` bounds the shapes that will do, by default to those with a whole period of output.
    """
    if len(wanted) != volume_dims:
        raise GeometryError(
            f"--tile-shape {format_shape(wanted)} has {len(wanted)} axes; "
            f"the volume has {volume_dims}."
        )
    slices = volume_dims - shapes.dims
    least = smallest_tile(shapes) if smallest is None else smallest
    valid = shapes.valid_input_shape(wanted[slices:], "nearest")
    valid = tuple(max(v, s) for v, s in zip(valid, least, strict=True))
    if valid != wanted[slices:]:
        raise GeometryError(
            f"--tile-shape {format_shape(wanted)} is not a valid input shape of the network. "
            f"Nearest valid shape: {format_shape(wanted[:slices] + valid)}."
        )


def fixed_tile(shapes: NetworkShapes, eval_shape: Sequence[int]) -> tuple[int, ...]:
    """The tile of a network that is not equivariant: DaCapo's evaluation shape, made valid."""
    valid = shapes.valid_input_shape(tuple(eval_shape), "nearest")
    return tuple(max(v, s) for v, s in zip(valid, smallest_tile(shapes), strict=True))


def fixed_tile_warnings(shapes: UNetShapes, lattice: Lattice) -> list[str]:
    """Warnings for the user of a network that is not translation-equivariant."""
    if shapes.equivariant:
        return []
    tile = format_shape(lattice.tile_shape[-shapes.dims :])
    if any(shapes.receptive_margin):
        lost = format_shape([low for low, _ in shapes.lost])
        return [
            "padding 'same' puts zeros around every tile. The outer "
            f"{lost} output voxels of each tile are dropped to avoid seams; at the volume's border "
            f"the --border fill replaces the zeros. All tiles have one shape ({tile}) and lie on a "
            "fixed lattice."
        ]
    stride = format_shape(lattice.stride[-shapes.dims :])
    return [
        "attention makes this network's output depend on the position of its tile. All tiles have "
        f"one shape ({tile} input voxels) and lie on a fixed lattice, so that every voxel has one "
        "value whatever the ROI and the blocks. Another --tile-shape gives other values, and faint "
        f"seams are possible every {stride} voxels."
    ]


def probed_tile_warnings(shapes: NetworkShapes) -> list[str]:
    """Warnings for the user of a network whose values depend on the edges of its tile."""
    dropped = [
        low - total // 2 for (low, _), total in zip(shapes.lost, shapes.context, strict=True)
    ]
    if not any(dropped):
        return []
    return [
        f"the outer {format_shape(dropped)} output voxels of each tile depend on its edge, as with "
        "padding, and are dropped. At the volume's border the --border fill takes the place of the "
        "padding."
    ]
