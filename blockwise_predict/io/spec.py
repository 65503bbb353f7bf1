"""What an output array is to be."""

from __future__ import annotations

from dataclasses import dataclass, field

from blockwise_predict.geometry.grid import Lengths
from blockwise_predict.io.formats import Format
from blockwise_predict.io.kvstore import Json

# Of compression. The next levels are half as fast, for 2 % of size (zstd, uint8 affinities).
LEVEL = 1
_RESERVED = {"voxel_size", "offset", "axis_names", "units", "types", "resolution", "transform"}


@dataclass(frozen=True)
class OutputSpec:
    """An array [channels, *spatial] to create. Spatial axes in C order; lengths in nm.

    `offset` is the begin corner of its voxel 0. `input_voxel_size` is that of the input, needed
    for the OME-NGFF translation (see `io.ngff`). `attributes` are JSON-able additions.
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


def check_spec(spec: OutputSpec) -> None:
    """Raise ValueError for a spec that contradicts itself."""
    per_axis = (spec.chunk_shape, spec.voxel_size, spec.offset, spec.input_voxel_size)
    if any(len(values) != len(spec.shape) for values in (*per_axis, spec.axis_names)):
        raise ValueError(f"{spec}: every per-axis value needs one entry for each spatial axis")
    if min(*spec.shape, *spec.chunk_shape, spec.channels) < 1:
        raise ValueError(f"{spec}: lengths of axes, chunks and channels must be positive")
    if len(spec.channel_names) != spec.channels:
        raise ValueError(f"{spec.channels} channels, {len(spec.channel_names)} channel names")
    if _RESERVED & set(spec.attributes):
        raise ValueError(f"{sorted(_RESERVED & set(spec.attributes))} are written from the spec")
