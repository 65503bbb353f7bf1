"""First phase of planning: open checkpoint and input, and check that they fit together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from blockwise_predict.architectures import UNetShapes
from blockwise_predict.checkpoint import TrainedModel
from blockwise_predict.config.model import RunConfig
from blockwise_predict.engine.precision import check_precision
from blockwise_predict.engine.predictor import choose_device
from blockwise_predict.errors import ArrayError, CheckpointError, ConfigError
from blockwise_predict.geometry.grid import VoxelGrid
from blockwise_predict.io import (
    BlockSource,
    ChosenLevel,
    ResampledArray,
    open_source,
)
from blockwise_predict.plan.channels import selected_model
from blockwise_predict.plan.declared import check_declared
from blockwise_predict.plan.ensemble import check_agreement, open_models, reopen_models
from blockwise_predict.plan.model import Plan
from blockwise_predict.plan.outputs import plan_arrays
from blockwise_predict.plan.planned_input import open_planned
from blockwise_predict.plan.reading import reading_of
from blockwise_predict.plan.voxel_size import check_voxel_size, first_trained_size, resampled

WEIGHT_BYTES = torch.float32.itemsize


@dataclass(frozen=True)
class Opened:
    """A configuration with its checkpoint and input opened.

    `device` is the workers' device, as far as that is known on this machine. `model` is the first
    network, `others` are those whose predictions are averaged with its own. `tile_shapes` are the
    networks' tiles in an earlier run that is resumed. `requested` is how checkpoints on the Hub
    were named, None for others; the configuration has their commits. `beside` are networks that are
    not looked at, but share the worker's memory.
    """

    config: RunConfig
    model: TrainedModel
    array: BlockSource
    device: torch.device
    others: tuple[TrainedModel, ...] = ()
    tile_shapes: tuple[tuple[int, ...], ...] = ()
    requested: tuple[str | None, ...] = ()
    beside: tuple[TrainedModel, ...] = ()

    @property
    def models(self) -> tuple[TrainedModel, ...]:
        """All networks."""
        return (self.model, *self.others)

    def requested_as(self, number: int) -> str | None:
        """How the checkpoint of a network was named, if it is on the Hub."""
        return self.requested[number] if self.requested else None

    @property
    def each(self) -> list[Opened]:
        """The same for each of the networks alone."""
        tiles = self.tile_shapes or (self.config.tile_shape,) * len(self.models)
        return [
            replace(
                self,
                config=self.config.model_copy(update={"tile_shape": tile}),
                model=model,
                others=(),
                tile_shapes=(),
                beside=self.models[:number] + self.models[number + 1 :],
            )
            for number, (model, tile) in enumerate(zip(self.models, tiles, strict=True))
        ]

    @property
    def input_grid(self) -> VoxelGrid:
        """The voxel grid of the input."""
        return self.array.placement.grid

    @property
    def normalize(self) -> str:
        """The rule for the input: as configured, else the checkpoint's, else DaCapo's."""
        return self.config.normalize or self.model.normalization or "auto"

    @property
    def scale(self) -> tuple[int, ...]:
        """Output voxels per input voxel, for each axis of the volume."""
        return self.over_volume(self.model.shapes.scale)

    @property
    def streamed_shapes(self) -> UNetShapes | None:
        """The network's shapes if it is streamed; None if tiles are whole passes."""
        return None if self.config.blend else self.model.streamed_shapes

    @property
    def raw_bytes(self) -> int:
        """Bytes in memory for an input voxel, channels included."""
        if isinstance(self.array, ResampledArray):
            return self.array.voxel_bytes
        return np.dtype(self.array.dtype).itemsize * (self.array.channels or 1)

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights of all networks in float32, as far as the files show them."""
        return sum(
            WEIGHT_BYTES * tensor.numel()
            for model in (*self.models, *self.beside)
            for tensor in model.weights.values()
        )

    @property
    def array_bytes(self) -> list[int]:
        """Bytes of a voxel, all channels included, in the array of each output."""
        return [array.voxel_bytes for array in plan_arrays(self.config, self.model)]

    @property
    def output_bytes(self) -> int:
        """Bytes of an output voxel, all channels of all outputs included."""
        return sum(self.array_bytes)

    def over_volume(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        """Sizes for all axes of the volume, from those of the network: 1 along its slices and
        frames."""
        return (1,) * (len(self.array.shape) - len(sizes)) + tuple(sizes)


def open_inputs(
    config: RunConfig,
    *,
    models: Sequence[TrainedModel] | None = None,
    array: BlockSource | None = None,
    level: ChosenLevel | None = None,
) -> Opened:
    """Open the checkpoints and the input of a configuration, unless they are given.

    `level` is the one that an earlier run has read of the input, if that is a multiscale group.
    Raises an InputError if something cannot be opened, or if network, input and options do not fit
    together.
    """
    given = open_models(config) if models is None else models
    first, *others = [selected_model(config, model) for model in given]
    check_agreement([first, *others])
    trained = first_trained_size(config, (first, *others))
    if array is None:
        array = open_source(
            config.input,
            trained,
            voxel_size=config.voxel_size,
            offset=config.offset,
            chosen=level,
            resample=config.resample,
        )
    if config.resample:
        array = resampled(array, trained)
    opened = Opened(config, first, array, workers_device(config), tuple(others))
    _check_channels(first, array)
    for each in opened.each:
        _check_exact(each)
        check_declared(config, each.model, array)
        check_voxel_size(config, each.model, array)
        check_precision(config.precision, opened.device, each.streamed_shapes is not None)
        _check_float32(config.precision, each.model)
    return opened


def reopen(plan: Plan, device: torch.device) -> Opened:
    """Open what a plan was made from, for a worker that computes on `device`.

    Raises RunStateError if the weights have changed since, and an InputError if something can no
    longer be opened.
    """
    config = plan.config
    models = reopen_models(config, [each.network for each in plan.each])
    first, *others = [selected_model(config, model) for model in models]
    array = open_planned(plan, cache_bytes=reading_of(plan).recent_bytes)
    return Opened(config, first, array, device, tuple(others))


def workers_device(config: RunConfig) -> torch.device:
    """The workers' device, as far as that is known here. Raises ConfigError if it is not there."""
    if not config.is_elsewhere:
        return choose_device(config.device)
    if config.device == "cpu" or (config.device == "auto" and config.gpus == 0):
        return torch.device("cpu")
    return torch.device("cuda")


def _check_channels(model: TrainedModel, array: BlockSource) -> None:
    dims, spatial = model.shapes.dims, len(array.shape)
    if spatial < dims:
        with_time = "axes, time included," if array.placement.grid.has_time else "spatial axes"
        raise ArrayError(
            f"{array.path} has {spatial} {with_time} {array.shape}, "
            f"but {model.path} is a {dims}-D network."
        )
    expected, channels = model.in_channels, array.channels or 1
    if channels != expected:
        raise ArrayError(
            f"{array.path} has {channels} channels, but {model.path} was trained on {expected}."
        )


def _check_exact(opened: Opened) -> None:
    model = opened.model
    if model.inexact is not None and not opened.config.blend:
        raise CheckpointError(
            f"{model.path} cannot be predicted exactly block by block: {model.inexact} "
            "What is predicted for a voxel depends on the tile it is in. Train with a "
            "normalisation that does not depend on the tile (batch norm), or blend overlapping "
            "tiles with --blend."
        )


def _check_float32(precision: str, model: TrainedModel) -> None:
    if model.float32_only and precision not in ("auto", "float32", "tfloat32"):
        raise ConfigError(
            f"--precision {precision}: {model.path} computes in float32 only, whatever its input."
        )
