"""The parts of a plan: network, input, output, tilings."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Annotated, Any

import numpy as np
from funlib.geometry import Roi
from pydantic import BaseModel, ConfigDict, Field

from blockwise_predict.config.postprocess import Postprocess, PostprocessText, parse_postprocess
from blockwise_predict.config.values import Format
from blockwise_predict.engine.settings import Streaming
from blockwise_predict.engine.values import Encoding
from blockwise_predict.geometry.grid import Lengths, VoxelGrid, exact_lengths
from blockwise_predict.geometry.lattice import Lattice
from blockwise_predict.geometry.probed import Probed
from blockwise_predict.io.level import ChosenLevel

# The name of the only channel of an array of labels.
LABEL = "label"


class Model(BaseModel):
    """Base of the plan's parts: frozen, without unknown fields, written as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class NetworkPlan(Model):
    """The network: its weights and its architecture, or what probing its program found out.

    `activation` follows the network of the checkpoint's files, which do not contain it. `record` is
    what the checkpoint's package says of itself. `cached` is where workers find a checkpoint on the
    Hub, and `requested` how it was named: the configuration has its commit. `selected` are the
    numbers of the channels that are predicted, None for all.
    """

    checkpoint: str
    run: str | None
    iteration: int | None
    weights_sha256: str
    architecture: dict[str, Any]
    head: dict[str, Any] | None
    channel_names: tuple[str, ...]
    dims: int
    activation: str | None = None
    record: dict[str, str] = {}
    cached: str | None = None
    requested: str | None = None
    probed: Probed | None = None
    selected: tuple[int, ...] | None = None


class ResampledFrom(Model):
    """The stored array that an input is resampled from, and how. Lengths as in `InputPlan`."""

    shape: tuple[int, ...]
    chunk_shape: tuple[int, ...]
    dtype: str
    voxel_size: tuple[str, ...]
    filter: str


class InputPlan(Model):
    """The input array. Lengths (nm) are exact decimals or ratios, as text.

    Of frames the first axis is time, in `time_unit` (empty: not known); it is None without frames.
    `level` is the level of a multiscale group that `path` is, if a group was given.
    `resampled_from` is what `path` holds, if that is resampled as it is read.
    `metadata_sha256` is the digest of the metadata that say how the array is stored,
    `sample_sha256` the digests of a few chunks, by the chunk's first voxel.
    """

    path: str
    format: str
    shape: tuple[int, ...]
    channels: int | None
    dtype: str
    chunk_shape: tuple[int, ...]
    axis_names: tuple[str, ...]
    voxel_size: tuple[str, ...]
    offset: tuple[str, ...]
    voxel_size_source: str
    offset_source: str
    metadata_sha256: str
    sample_sha256: dict[str, str]
    time_unit: str | None = None
    level: ChosenLevel | None = None
    resampled_from: ResampledFrom | None = None

    @property
    def stored_voxel_size(self) -> Lengths:
        """The voxel size of the stored array."""
        stored = self.resampled_from
        return exact_lengths(self.voxel_size if stored is None else stored.voxel_size)

    @property
    def chunk_bytes(self) -> int:
        """Decoded bytes of a stored chunk."""
        stored = self.resampled_from or self
        itemsize = np.dtype(stored.dtype).itemsize
        return prod(stored.chunk_shape) * itemsize * (self.channels or 1)

    @property
    def grid(self) -> VoxelGrid:
        """The input's voxel grid."""
        sizes, offset = exact_lengths(self.voxel_size), exact_lengths(self.offset)
        return VoxelGrid(sizes, offset, self.time_unit)


class ArrayPlan(Model):
    """An array of the output: consecutive channels of the network, stored in one data type.

    `name` is that of the network's output, empty if it has only one; `path` is where the array is.
    `postprocess` is the decision that is stored instead of the channels' values.
    """

    path: str
    name: str
    channel_names: tuple[str, ...]
    dtype: str
    value_range: tuple[float, float] | None
    postprocess: PostprocessText | None = None

    @property
    def decision(self) -> Postprocess | None:
        """The decision that is stored instead of values."""
        return None if self.postprocess is None else parse_postprocess(self.postprocess)

    @property
    def encoding(self) -> Encoding:
        """How values are stored."""
        return Encoding(self.dtype, self.value_range, self.decision)

    @property
    def stored_names(self) -> tuple[str, ...]:
        """The names of the channels that are stored: those of the network, or that of labels."""
        return (LABEL,) if self.classes else self.channel_names

    @property
    def classes(self) -> tuple[str, ...]:
        """Of labels, the network's channel that each stands for, from 0 on; else empty."""
        return self.channel_names if self.decision == Postprocess("argmax") else ()

    @property
    def window(self) -> tuple[float, float] | None:
        """The smallest and largest value of a mask or of labels; None for other arrays."""
        if self.decision is None:
            return None
        return 0.0, float(max(1, len(self.classes) - 1))

    @property
    def voxel_bytes(self) -> int:
        """Bytes of a voxel, all channels included, before compression."""
        return np.dtype(self.dtype).itemsize * len(self.stored_names)


class OutputPlan(Model):
    """The output: an array, or a group of one array for each output of the network.

    All arrays have the same shape, chunks and shards; the channels that they are made of, one after
    another, are those of the network. `roi_begin` is in output voxels, counted from the input's
    origin.
    """

    path: str
    format: Format
    roi_begin: tuple[int, ...]
    shape: tuple[int, ...]
    chunk_shape: tuple[int, ...]
    # None: one file for each chunk, as in all runs of earlier versions.
    shard_shape: tuple[int, ...] | None = None
    arrays: Annotated[tuple[ArrayPlan, ...], Field(min_length=1)]

    @property
    def roi(self) -> Roi:
        """The output ROI in output voxels from the input's origin."""
        return Roi(self.roi_begin, self.shape)

    @property
    def write_shape(self) -> tuple[int, ...]:
        """The voxels of one file or object: a shard, or a chunk."""
        return self.shard_shape or self.chunk_shape

    @property
    def voxel_bytes(self) -> int:
        """Bytes of a voxel in all arrays, before compression."""
        return sum(array.voxel_bytes for array in self.arrays)

    @property
    def largest_voxel_bytes(self) -> int:
        """Bytes of a voxel in the array that has most of them, before compression."""
        return max(array.voxel_bytes for array in self.arrays)

    def by_array(self, value: Callable[[ArrayPlan], Any]) -> Any:
        """A value of the only array; with several, the value of each by its name."""
        if len(self.arrays) == 1:
            return value(self.arrays[0])
        return {array.name: value(array) for array in self.arrays}


class Tiling(Model):
    """How blocks go through the network: the lattice of passes, and how a pass is streamed, if so.

    `memory_bytes` is the predicted peak of a worker's data, of which `cache_bytes` are decoded
    input chunks that are kept for the next block.
    """

    lattice: Lattice
    streaming: Streaming | None
    memory_bytes: int
    cache_bytes: int


class EnsembleMember(Model):
    """A further network, whose prediction is averaged with the first one's, and its tilings."""

    network: NetworkPlan
    tiling: Tiling
    exact_tiling: Tiling | None
