"""The document that `predict plan` prints, and writes with `--json`: docs/planning.md explains it.

Shapes are in voxels and lengths in nm, both in the order of the input's axes; with frames, shapes
begin with their number. What is not known or does not apply is None.
"""

from __future__ import annotations

from typing import Literal

from blockwise_predict.plan.parts import Model

Shape = tuple[int, ...]
Lengths = tuple[float, ...]


class Checkpoint(Model):
    """A network's file, and the digest of its weights."""

    path: str
    sha256: str


class Network(Model):
    """What is made of the input's values, and by which networks.

    With several checkpoints values are the mean of their predictions, as of the `copies_per_tile`
    that `augment` asks for. Of `trained_channels` there are `channels` predicted.
    """

    checkpoints: tuple[Checkpoint, ...]
    channels: int
    trained_channels: int
    normalize: str
    normalization: str
    activation: str | None
    border: str
    precision: str
    augment: str
    copies_per_tile: int


class Resampled(Model):
    """The stored array that an input is resampled from."""

    shape_voxels: Shape
    dtype: str
    voxel_size_nm: Lengths
    filter: str


class Input(Model):
    """The input array. With frames, `frame_interval` and `first_frame` are in the `time_unit`."""

    path: str
    format: str
    dtype: str
    shape_voxels: Shape
    axes: tuple[str, ...]
    voxel_size_nm: Lengths
    voxel_size_source: str
    offset_nm: Lengths
    offset_source: str
    frame_interval: float | None
    first_frame: float | None
    time_unit: str | None
    resampled_from: Resampled | None


class OutputArray(Model):
    """An array of the output; `classes` are the names of the labels that it holds."""

    path: str
    name: str
    dtype: str
    channels: tuple[str, ...]
    value_range: tuple[float, float] | None
    threshold: float | None
    classes: tuple[str, ...]


class Level(Model):
    """A downsampled level of all arrays. Bytes are before compression."""

    number: int
    shape_voxels: Shape
    files: int
    bytes: int


class Disk(Model):
    """The file system that an output goes to. `free_files` is None where that has no limit."""

    path: str
    free_bytes: int
    free_files: int | None


class Output(Model):
    """The output. `files` (chunks or shards) and `bytes` (before compression) include `levels`.

    `disk` is None for an object store.
    """

    path: str
    format: str
    arrays: tuple[OutputArray, ...]
    roi: str
    units: str
    shape_voxels: Shape
    chunk_shape_voxels: Shape
    shard_shape_voxels: Shape | None
    shard_bytes: int | None
    levels: tuple[Level, ...]
    files: int
    bytes: int
    disk: Disk | None
    run_directory: str
    ledger_bytes: int


class Blocks(Model):
    """The blocks, and the tiles that predict them.

    `computed`, `outside_rois` and `masked_out` add up to `count`. For an inner block
    `read_shape_voxels` of the input are read. Tiles are streamed along an axis in slabs (None: each
    is one slab), or, with --blend, one is predicted every `stride_voxels`.
    """

    count: int
    per_axis: Shape
    shape_voxels: Shape
    read_shape_voxels: Shape
    computed: int
    outside_rois: int
    masked_out: int
    rois: int | None
    mask: str | None
    tile_shape_voxels: Shape
    streamed_axis: str | None
    slab_voxels: int | None
    stride_voxels: Shape | None


class Workers(Model):
    """The workers of the run, and the memory that each needs."""

    count: int
    started: str
    memory_bytes: int
    weights_bytes: int


class Cost(Model):
    """The costs of all blocks that are computed.

    `flops` is None for a network whose arithmetic is not known; `input_voxels` are those of all
    passes. `exact` tells whether all blocks were counted, or a sample of them.
    """

    passes: int
    flops: float | None
    input_voxels: float | None
    halo_overhead: float
    bytes_in: int
    bytes_out: int
    read_amplification: float
    exact: bool


Limit = Literal["computing", "reading", "number of blocks"]


class Duration(Model):
    """How long a number of workers take, each with a device like the probed one to itself.

    `seconds` if each worker reads as fast as the probe, `seconds_shared_reading` if all of them
    together read no faster. `worker_hours` and `cost` likewise.
    """

    workers: int
    seconds: float
    seconds_shared_reading: float
    worker_hours: float
    worker_hours_shared_reading: float
    cost: float | None
    cost_shared_reading: float | None
    limited_by: Limit


class Measured(Model):
    """What a probe measured, on this machine. `seconds` is the time of the planned workers here."""

    precision: str
    device: str
    flops_per_second: float | None
    input_voxels_per_second: float | None
    output_voxels_per_second: float
    read_bytes_per_second: float
    memory_bytes: int
    seconds: float
    durations: tuple[Duration, ...]
    price_per_worker_hour: float | None
    currency: str | None


class Overview(Model):
    """What a run will do and cost, with what the user may want to know of it."""

    version: str
    network: Network
    input: Input
    output: Output
    blocks: Blocks
    workers: Workers
    cost: Cost
    measured: Measured | None
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
