"""What an output array is to be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from blockwise_predict.geometry.grid import Lengths
from blockwise_predict.io.formats import Format
from blockwise_predict.io.kvstore import Json
from blockwise_predict.io.statement import CHANNEL, SPACE, TIME
from blockwise_predict.io.timing import unit_symbol

T = TypeVar("T")

# Of compression. The next levels are half as fast, for 2 % of size (zstd, uint8 affinities).
LEVEL = 1
_RESERVED = {"voxel_size", "offset", "axis_names", "units", "types", "resolution", "transform"}


@dataclass(frozen=True)
class OutputAxes:
    """The axes of an output: `names` are those of its volume, time first if `time_unit` is not None
    (empty: not known).

    They are stored in the order that OME-NGFF requires: (c, z, y, x), and (t, c, z, y, x).
    """

    names: tuple[str, ...]
    time_unit: str | None = None

    @property
    def channel(self) -> int:
        """The stored position of the channel axis."""
        return 0 if self.time_unit is None else 1

    def stored(self, channel: T, volume: Sequence[T]) -> list[T]:
        """A value for each stored axis, from that of the channel axis and the volume's."""
        return [*volume[: self.channel], channel, *volume[self.channel :]]

    @property
    def stored_names(self) -> list[str]:
        """The names of the stored axes."""
        return self.stored("c", self.names)

    @property
    def stored_kinds(self) -> list[str]:
        """The kinds of the stored axes."""
        spatial = [SPACE] * (len(self.names) - self.channel)
        return self.stored(CHANNEL, [*[TIME] * self.channel, *spatial])

    @property
    def units(self) -> list[str]:
        """The symbols of the volume's units; empty for a unit of time that is not known."""
        time = [] if self.time_unit is None else [unit_symbol(self.time_unit)]
        return [*time, *["nm"] * (len(self.names) - len(time))]


@dataclass(frozen=True)
class OutputSpec:
    """An array [channels, *spatial] to create. Spatial axes in C order; lengths in nm.

    With a `time_unit` the first of the spatial axes is time, in that unit. `offset` is the begin
    corner of its voxel 0. `input_voxel_size` is that of the input, needed for the OME-NGFF
    translation (see `io.ngff`). Chunks are stored in shards of `shard_shape`, if it is given.
    `window` are the smallest and largest value, if they are known and not the type's.
    `attributes` are JSON-able additions.
    """

    path: str
    format: Format
    shape: tuple[int, ...]
    channels: int
    dtype: str
    chunk_shape: tuple[int, ...]
    voxel_size: Lengths
    offset: Lengths
    input_voxel_size: Lengths
    axis_names: tuple[str, ...]
    channel_names: tuple[str, ...]
    attributes: Json = field(default_factory=dict)
    fill_value: int = 0
    time_unit: str | None = None
    shard_shape: tuple[int, ...] | None = None
    window: tuple[float, float] | None = None

    @property
    def axes(self) -> OutputAxes:
        """The axes, as they are stored."""
        return OutputAxes(self.axis_names, self.time_unit)

    @property
    def write_shape(self) -> tuple[int, ...]:
        """The voxels of one file or object: a shard, or a chunk."""
        return self.shard_shape or self.chunk_shape


def check_spec(spec: OutputSpec) -> None:
    """Raise ValueError for a spec that contradicts itself."""
    per_axis = (
        *(spec.chunk_shape, spec.write_shape),
        *(spec.voxel_size, spec.offset, spec.input_voxel_size),
    )
    if any(len(values) != len(spec.shape) for values in (*per_axis, spec.axis_names)):
        raise ValueError(f"{spec}: every per-axis value needs one entry for each spatial axis")
    if min(*spec.shape, *spec.chunk_shape, spec.channels) < 1:
        raise ValueError(f"{spec}: lengths of axes, chunks and channels must be positive")
    if any(s % c for s, c in zip(spec.write_shape, spec.chunk_shape, strict=True)):
        raise ValueError(f"shards of {spec.shard_shape} are not multiples of {spec.chunk_shape}")
    if spec.shard_shape is not None and spec.format != "zarr3":
        raise ValueError(f"{spec.format} has no shards")
    if len(spec.channel_names) != spec.channels:
        raise ValueError(f"{spec.channels} channels, {len(spec.channel_names)} channel names")
    if _RESERVED & set(spec.attributes):
        raise ValueError(f"{sorted(_RESERVED & set(spec.attributes))} are written from the spec")
