"""The lattice of overlapping tiles for a network, a tile shape and an overlap."""

from __future__ import annotations

from collections.abc import Sequence

from blockwise_predict.architectures import NetworkShapes
from blockwise_predict.errors import GeometryError
from blockwise_predict.geometry.grid import format_shape
from blockwise_predict.geometry.lattice import AxisLattice, Lattice
from blockwise_predict.geometry.overlap import OverlappingAxis


def build_overlapping(
    shapes: NetworkShapes,
    tile_shape: Sequence[int],
    overlap: float,
    inside: Sequence[int] | None = None,
    flipped: Sequence[bool] = (),
) -> Lattice:
    """The lattice of tiles of `tile_shape` input voxels that overlap by a share of their output.

    `inside` is the volume's shape (input voxels) if all passes must lie in it: then the last pass
    along an axis ends at the volume's end. `tile_shape` has one axis more than a 2-D network that
    is applied to each slice; `flipped` says for each of the network's axes if the network sees it
    reversed. Raises GeometryError for a volume that is smaller than the tile.
    """
    slices = len(tile_shape) - shapes.dims
    axes: list[AxisLattice | OverlappingAxis] = []
    axes += [AxisLattice(1, 1, 0, 0, 1, size) for size in tile_shape[:slices]]
    for axis in range(shapes.dims):
        found = _axis(shapes, axis, tile_shape[slices + axis], overlap)
        if inside is not None:
            found = _ending_inside(found, inside[slices + axis], _alignment(shapes, axis))
        axes.append(found.reversed() if flipped and flipped[axis] else found)
    return Lattice(tuple(axes))


def _alignment(shapes: NetworkShapes, axis: int) -> int:
    """Input voxels by which passes may be shifted; equivariant networks keep to their period."""
    return shapes.period[axis] if shapes.equivariant else 1


def _axis(shapes: NetworkShapes, axis: int, size: int, overlap: float) -> OverlappingAxis:
    scale, context, unit = shapes.scale[axis], shapes.context[axis], _alignment(shapes, axis)
    low = context // 2
    output = size * scale - context
    # As MONAI rounds it.
    advance = int(output * (1 - overlap)) // scale
    step = max(1, advance // unit) * unit * scale
    first = -(low // scale) % unit
    return OverlappingAxis(scale, low, context - low, step, size, first)


def _ending_inside(axis: OverlappingAxis, volume: int, unit: int) -> OverlappingAxis:
    room = volume - axis.input_size - axis.first
    if room < 0:
        raise GeometryError(
            f"--border valid: an axis of {volume} input voxels has no room for a tile of "
            f"{axis.input_size}. Use a smaller --tile-shape, or --border reflect."
        )
    last = axis.first + room // unit * unit
    return OverlappingAxis(
        axis.scale, axis.low, axis.high, axis.step, axis.input_size, axis.first, last
    )


def blending_warning(lattice: Lattice, dims: int) -> str:
    """What a user of blended tiles should know."""
    tile, stride = (format_shape(shape[-dims:]) for shape in (lattice.tile_shape, lattice.stride))
    return (
        f"values are means over overlapping tiles ({tile} input voxels, every {stride} output "
        "voxels), which depend on the tiles' shape and overlap: keep both the same for all parts "
        "of a volume."
    )
