"""Second phase of planning: the ROI, the lattice of passes, and the chunks of the output."""

from __future__ import annotations

from dataclasses import dataclass

from funlib.geometry import Coordinate, Roi

from blockwise_predict.config.model import RunConfig
from blockwise_predict.config.shard_fields import NO_SHARDS
from blockwise_predict.errors import ConfigError, GeometryError
from blockwise_predict.geometry.grid import RequestedRoi, format_shape, resolve_roi
from blockwise_predict.geometry.lattice import Lattice
from blockwise_predict.geometry.tiling import (
    build_lattice,
    check_tile,
    fixed_tile,
    smallest_tile,
)
from blockwise_predict.plan.augmentation import valid_region
from blockwise_predict.plan.blending import blended_lattice
from blockwise_predict.plan.opened import Opened
from blockwise_predict.plan.outputs import output_format

# Default edge of a chunk (voxels), by the number of spatial axes. Along time it is a single frame.
CHUNK_EDGE = {2: 512, 3: 64}


@dataclass(frozen=True)
class Region:
    """What is predicted: `roi` and `chunk_shape`, in output voxels from the input's origin.

    `shard_shape` is None for an output without shards, or if they are still to be chosen. `lattice`
    is for the configured tile. If the tile is still to be chosen, it is for the smallest one, whose
    lattice has the same points. `notes` tell the user how the ROI was determined.
    """

    roi: Roi
    chunk_shape: tuple[int, ...]
    lattice: Lattice
    notes: tuple[str, ...]
    shard_shape: tuple[int, ...] | None = None

    @property
    def write_shape(self) -> tuple[int, ...]:
        """What blocks consist of: shards that are given, or chunks."""
        return self.shard_shape or self.chunk_shape


def choose_region(opened: Opened) -> Region:
    """The region of a run. Raises GeometryError or ConfigError if something does not fit."""
    config, array, scale = opened.config, opened.array, opened.scale
    lattice = first_lattice(opened)
    volume = Roi((0,) * len(scale), Coordinate(array.shape) * Coordinate(scale))
    if config.border == "valid":
        volume = _valid_volume(opened)
    requested = config.roi
    if requested is None and config.rois is not None:
        requested = RequestedRoi.around(config.rois)
    roi, notes = resolve_roi(requested, opened.input_grid.divided(scale), volume)
    chunk = _chunk_shape(opened, roi)
    shard = _given_shards(config, chunk)
    written = shard or chunk
    if any(w > n for w, n in zip(written, roi.shape, strict=True)):
        notes.append(
            f"{'chunks' if shard is None else 'shards'} of {format_shape(written)} voxels reach "
            f"beyond the ROI, of {format_shape(roi.shape)}: they are stored whole, with zeros there"
        )
    return Region(roi, chunk, lattice, tuple(notes), shard)


def first_lattice(opened: Opened) -> Lattice:
    """The lattice for the first network's configured tile, or for the smallest; see `Region`."""
    if opened.config.blend:
        return blended_lattice(opened)
    return build_lattice(opened.model.shapes, _first_tile(opened))


def _first_tile(opened: Opened) -> tuple[int, ...]:
    """The configured tile, or the network's fixed one; else the smallest, until one is chosen."""
    model = opened.model
    if (given := opened.config.tile_shape) is not None:
        check_tile(given, model.shapes, len(opened.array.shape))
        return given
    if model.streamed_shapes is not None:
        return opened.over_volume(smallest_tile(model.shapes))
    return opened.over_volume(fixed_tile(model.shapes, model.usual_input_shape))


def _valid_volume(opened: Opened) -> Roi:
    """The output voxels whose context, for every network, lies inside the input."""
    valid = [valid_region(each, first_lattice(each)) for each in opened.each]
    volume = valid[0]
    for other in valid[1:]:
        volume = None if volume is None or other is None else volume.intersect(other)
    if volume is None or volume.empty:
        raise GeometryError(
            f"--border valid leaves nothing of {opened.array.path} {opened.array.shape}: the "
            f"network needs {opened.model.shapes.context} voxels of context. Use --border reflect."
        )
    return volume


def _chunk_shape(opened: Opened, roi: Roi) -> tuple[int, ...]:
    dims, given = len(roi.shape), opened.config.chunk_shape
    if given is None:
        frames = (1,) * opened.input_grid.has_time
        edges = frames + (CHUNK_EDGE[dims - len(frames)],) * (dims - len(frames))
        shards = opened.config.shard_shape
        whole = roi.shape if shards in (None, NO_SHARDS) else shards
        if len(whole) == dims:
            return tuple(min(edge, size) for edge, size in zip(edges, whole, strict=True))
        return edges
    check_axes("--chunk-shape", given, dims)
    return given


def _given_shards(config: RunConfig, chunk: tuple[int, ...]) -> tuple[int, ...] | None:
    """The configured shards, if there are to be such."""
    shard = config.shard_shape
    given = {"--shard-shape": shard, "--shard-size": config.shard_size}
    asked = [option for option, value in given.items() if value not in (None, NO_SHARDS)]
    if asked and (format_ := output_format(config)) != "zarr3":
        raise ConfigError(
            f"{asked[0]}: the output is {format_}, which has no shards. Leave the option out, or "
            "write --format zarr3."
        )
    if shard is None or isinstance(shard, str):
        return None
    check_axes("--shard-shape", shard, len(chunk))
    if any(s % c for s, c in zip(shard, chunk, strict=True)):
        nearest = nearest_multiple(shard, chunk)
        raise GeometryError(
            f"--shard-shape {format_shape(shard)} is not a multiple of the chunks "
            f"{format_shape(chunk)}. Nearest: {format_shape(nearest)}, or set --chunk-shape."
        )
    return shard


def nearest_multiple(shape: tuple[int, ...], unit: tuple[int, ...]) -> tuple[int, ...]:
    """The multiple of `unit` that is nearest to a shape, at least `unit` itself."""
    return tuple(max(1, round(n / u)) * u for n, u in zip(shape, unit, strict=True))


def check_axes(option: str, shape: tuple[int, ...], dims: int) -> None:
    """Raise ConfigError unless an option has one number for each of the volume's axes."""
    if len(shape) != dims:
        given = f"{option} {format_shape(shape)} has {len(shape)} axes"
        raise ConfigError(f"{given}, but the volume has {dims}.")
