"""Deciding a run: from a configuration, a checkpoint and an input array to a plan.

Pure: nothing is written, so that `predict plan` and `predict run` decide alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from funlib.geometry import Coordinate, Roi

from blockwise_predict import __version__
from blockwise_predict.checkpoint import TrainedModel, load_checkpoint, nonfinite_weights
from blockwise_predict.config.model import RunConfig
from blockwise_predict.config.values import Format
from blockwise_predict.engine.precision import check_precision
from blockwise_predict.engine.predictor import choose_device
from blockwise_predict.engine.values import Normalization
from blockwise_predict.errors import ArrayError, ConfigError, GeometryError
from blockwise_predict.geometry.grid import VoxelGrid, format_length, resolve_roi
from blockwise_predict.geometry.lattice import Lattice
from blockwise_predict.geometry.tiling import (
    build_lattice,
    check_tile,
    fixed_tile,
    fixed_tile_warnings,
    smallest_tile,
)
from blockwise_predict.io import (
    InputArray,
    check_output,
    guess_format,
    missing_sample,
    open_input,
    sample_digests,
)
from blockwise_predict.plan.layout import (
    Layout,
    Volumes,
    check_axes,
    choose_layout,
    format_shape,
    memory_notes,
)
from blockwise_predict.plan.model import InputPlan, NetworkPlan, OutputPlan, Plan


@dataclass(frozen=True)
class Opened:
    """What a configuration names, opened once, for the plan and for what is done with it.

    `device` is what the workers compute on, as far as that is known here.
    """

    model: TrainedModel
    array: InputArray
    device: torch.device


def make_plan(config: RunConfig, recorded: Plan | None = None) -> tuple[Plan, Opened]:
    """Decide a run, from what its configuration names. Writes nothing.

    With the plan `recorded` by an earlier run, sizes that the configuration leaves open stay what
    they were. Raises an InputError for anything that does not fit.
    """
    opened = open_named(config)
    if recorded is not None:
        config = _with_recorded_sizes(config, recorded)
    volumes, roi_notes = _geometry(config, opened)
    layout = choose_layout(volumes, opened.device)
    if recorded is not None and layout.tiling.lattice == recorded.lattice:
        layout = replace(layout, tiling=recorded.tiling, exact_tiling=recorded.exact_tiling)
    return _assembled(volumes, layout, opened, roi_notes), opened


def open_named(config: RunConfig) -> Opened:
    """Open the checkpoint and the input, and check that they go together. Raises an InputError."""
    model = load_checkpoint(
        config.checkpoint,
        iteration=config.iteration,
        architecture=config.architecture,
        unsafe=config.unsafe_load_pickle,
    )
    array = open_input(
        config.input,
        voxel_size=config.voxel_size,
        offset=config.offset,
    )
    _check_channels(model, array)
    check_output(config.output, _format(config), config.output_dtype)
    device = workers_device(config)
    check_precision(config.precision, device, model.shapes.equivariant)
    return Opened(model, array, device)


def _geometry(config: RunConfig, opened: Opened) -> tuple[Volumes, list[str]]:
    """Where the output lies and what its chunks are; with notes on the ROI."""
    model, array = opened.model, opened.array
    scale = _scale(opened)
    grid = VoxelGrid(array.placement.voxel_size, array.placement.offset)
    lattice = build_lattice(model.shapes, _first_tile(config, model, array))
    volume = Roi((0,) * len(scale), Coordinate(array.shape) * Coordinate(scale))
    if config.border == "valid":
        volume = _valid_volume(lattice, array, model)
    roi, notes = resolve_roi(config.roi, grid.divided(scale), volume)
    chunk = _chunk_shape(config, roi)
    if any(c > n for c, n in zip(chunk, roi.shape, strict=True)):
        notes.append(
            f"chunks of {format_shape(chunk)} voxels reach beyond the ROI, of "
            f"{format_shape(roi.shape)}: they are stored whole, with zeros there"
        )
    return Volumes(config, model, array, lattice, roi, chunk), notes


def _assembled(volumes: Volumes, layout: Layout, opened: Opened, roi_notes: list[str]) -> Plan:
    config, model, array, roi = volumes.config, volumes.model, volumes.array, volumes.roi
    return Plan(
        version=__version__,
        config=config,
        network=_network_plan(model),
        input=_input_plan(array),
        output=OutputPlan(
            path=config.output,
            format=_format(config),
            roi_begin=tuple(roi.begin),
            shape=tuple(roi.shape),
            chunk_shape=volumes.chunk,
            dtype=config.output_dtype,
            value_range=_value_range(config, model),
        ),
        normalization=Normalization.parse(config.normalize, array.storage.dtype),
        border=config.border,
        precision=config.precision,
        scale=_scale(opened),
        block_shape=layout.block_shape,
        tiling=layout.tiling,
        exact_tiling=layout.exact_tiling,
        notes=(*array.placement.notes, *roi_notes, *memory_notes(config, opened.device)),
        warnings=(
            *nonfinite_weights(model),
            *fixed_tile_warnings(model.shapes, volumes.lattice),
            *layout.warnings,
            *_missing_warnings(config, array, layout.tiling.lattice.read_roi(roi)),
        ),
    )


def _format(config: RunConfig) -> Format:
    return config.format or guess_format(config.output) or "zarr3"


def _scale(opened: Opened) -> tuple[int, ...]:
    """Output voxels per input voxel, by the volume's axes."""
    return _over_volume(opened.model.shapes.scale, opened.array.shape, 1)


def workers_device(config: RunConfig) -> torch.device:
    """What the workers compute on, as far as that is known here. Raises ConfigError."""
    if not config.is_elsewhere:
        return choose_device(config.device)
    if config.device == "cpu" or (config.device == "auto" and config.gpus == 0):
        return torch.device("cpu")
    return torch.device("cuda")


def _missing_warnings(config: RunConfig, array: InputArray, read: Roi) -> Iterator[str]:
    """That blocks will fail, or be left out, for want of their input."""
    if config.bad_input not in ("fail", "skip"):
        return
    within = read.intersect(Roi((0,) * array.dims, array.shape))
    missing, sampled = missing_sample(array, within.begin, within.end)
    if missing:
        outcome = {"fail": "fail", "skip": "be left out"}[config.bad_input]
        yield (
            f"{missing} of {sampled} chunks of {array.path} that were looked at are not stored; "
            f"blocks that need such chunks will {outcome}. If this volume leaves out empty chunks "
            "on purpose, pass --bad-input fill-missing."
        )


def _with_recorded_sizes(config: RunConfig, recorded: Plan) -> RunConfig:
    sizes = {
        "chunk_shape": recorded.output.chunk_shape,
        "block_shape": recorded.block_shape,
        "tile_shape": recorded.lattice.tile_shape,
    }
    return config.model_copy(
        update={key: size for key, size in sizes.items() if getattr(config, key) is None}
    )


def _check_channels(model: TrainedModel, array: InputArray) -> None:
    dims, spatial = model.shapes.dims, len(array.shape)
    if spatial not in (dims, dims + 1):
        raise ArrayError(
            f"{array.path} has {spatial} spatial axes {array.shape}, "
            f"but {model.path} is a {dims}-D network."
        )
    wanted, there = model.architecture.fmaps_in, array.channels or 1
    if wanted != there:
        raise ArrayError(
            f"{array.path} has {there} channels, but {model.path} was trained on {wanted}."
        )


def _first_tile(config: RunConfig, model: TrainedModel, array: InputArray) -> tuple[int, ...]:
    """The tile that is given, or the fixed one; the smallest where sizes are still to be chosen."""
    shapes, volume = model.shapes, array.shape
    if config.tile_shape is not None:
        check_tile(config.tile_shape, shapes, len(volume))
        return config.tile_shape
    if shapes.equivariant:
        return _over_volume(smallest_tile(shapes), volume, 1)
    architecture = model.architecture
    increase = architecture.eval_shape_increase or (0,) * shapes.dims
    eval_shape = [a + b for a, b in zip(architecture.input_shape, increase, strict=True)]
    return _over_volume(fixed_tile(shapes, eval_shape), volume, 1)


def _over_volume(sizes: tuple[int, ...], volume: tuple[int, ...], fill: int) -> tuple[int, ...]:
    """Sizes of a 2-D network over a 3-D volume: `fill` along the slices."""
    return (fill,) * (len(volume) - len(sizes)) + tuple(sizes)


def _valid_volume(lattice: Lattice, array: InputArray, model: TrainedModel) -> Roi:
    volume = lattice.whole_passes(array.shape)
    if volume is None:
        raise GeometryError(
            f"--border valid leaves nothing of {array.path} {array.shape}: the network needs "
            f"{model.shapes.context} voxels of context. Use --border reflect."
        )
    return volume


def _chunk_shape(config: RunConfig, roi: Roi) -> tuple[int, ...]:
    dims = len(roi.shape)
    if config.chunk_shape is None:
        edge = 64 if dims == 3 else 512
        return tuple(min(edge, size) for size in roi.shape)
    check_axes("--chunk-shape", config.chunk_shape, dims)
    return config.chunk_shape


def _value_range(config: RunConfig, model: TrainedModel) -> tuple[float, float] | None:
    if config.output_dtype.startswith("float"):
        return None
    value_range = config.output_range or model.output_range
    if value_range is None:
        raise ConfigError(
            f"--output-dtype {config.output_dtype} needs --output-range LOW,HIGH: nothing in "
            f"{model.path} bounds the values that the network gives."
        )
    return value_range


def _network_plan(model: TrainedModel) -> NetworkPlan:
    head = model.head
    return NetworkPlan(
        checkpoint=model.path,
        run=model.run,
        iteration=model.iteration,
        weights_sha256=model.sha256,
        architecture=model.architecture_dict(),
        head=None if head is None else vars(head).copy(),
        channel_names=model.channel_names,
        dims=model.shapes.dims,
    )


def _input_plan(array: InputArray) -> InputPlan:
    placement = array.placement
    return InputPlan(
        path=array.path,
        format=array.format,
        shape=array.shape,
        channels=array.channels,
        dtype=str(np.dtype(array.dtype)),
        chunk_shape=array.chunk_shape,
        axis_names=placement.axis_names,
        voxel_size=tuple(format_length(size) for size in placement.voxel_size),
        offset=tuple(format_length(offset) for offset in placement.offset),
        voxel_size_source=placement.voxel_size_source,
        offset_source=placement.offset_source,
        metadata_sha256=array.metadata_sha256,
        sample_sha256=sample_digests(array),
    )
