"""First phase of planning: open checkpoint and input, and check that they fit together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from blockwise_predict.checkpoint import FACTORY, TrainedModel, open_checkpoint
from blockwise_predict.config.model import RunConfig
from blockwise_predict.engine.precision import check_precision
from blockwise_predict.engine.predictor import choose_device
from blockwise_predict.errors import ArrayError, CheckpointError, ConfigError, RunStateError
from blockwise_predict.geometry.grid import VoxelGrid, exact_lengths
from blockwise_predict.io import BlockSource, open_input
from blockwise_predict.plan.model import Plan


@dataclass(frozen=True)
class Opened:
    """A configuration with its checkpoint and input opened.

    `device` is the workers' device, as far as that is known on this machine.
    """

    config: RunConfig
    model: TrainedModel
    array: BlockSource
    device: torch.device

    @property
    def input_grid(self) -> VoxelGrid:
        """The voxel grid of the input."""
        placement = self.array.placement
        return VoxelGrid(placement.voxel_size, placement.offset)

    @property
    def scale(self) -> tuple[int, ...]:
        """Output voxels per input voxel, for each axis of the volume."""
        return self.over_volume(self.model.shapes.scale)

    @property
    def raw_bytes(self) -> int:
        """Bytes of an input voxel, channels included."""
        return np.dtype(self.array.dtype).itemsize * (self.array.channels or 1)

    @property
    def value_bytes(self) -> int:
        """Bytes of an output value."""
        return np.dtype(self.config.output_dtype).itemsize

    def over_volume(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        """Sizes for all axes of the volume, from those of the network: 1 along its slices."""
        return (1,) * (len(self.array.shape) - len(sizes)) + tuple(sizes)


def open_inputs(
    config: RunConfig, *, model: TrainedModel | None = None, array: BlockSource | None = None
) -> Opened:
    """Open the checkpoint and the input of a configuration, unless they are given.

    Raises an InputError if something cannot be opened, or if network, input and options do not fit
    together.
    """
    if model is None:
        model = open_checkpoint(
            config.checkpoint,
            iteration=config.iteration,
            architecture=config.architecture,
            unsafe_load_pickle=config.unsafe_load_pickle,
            factory=config.factory,
            input_shape=config.tile_shape,
        )
    if array is None:
        array = open_input(
            config.input,
            voxel_size=config.voxel_size,
            offset=config.offset,
        )
    opened = Opened(config, model, array, workers_device(config))
    _check_channels(model, array)
    _check_exact(model)
    check_precision(config.precision, opened.device, model.streamed_shapes is not None)
    _check_float32(config.precision, model)
    return opened


def reopen(plan: Plan, device: torch.device) -> Opened:
    """Open what a plan was made from, for a worker that computes on `device`.

    Raises RunStateError if the weights have changed since, and an InputError if something can no
    longer be opened.
    """
    config = plan.config
    if plan.network.architecture.get("program") == FACTORY and config.factory is None:
        raise CheckpointError(
            f"the run's network, of {config.checkpoint}, was {FACTORY}. Add that option to this "
            "command, with the same function: no record can allow code to be executed."
        )
    model = open_checkpoint(
        config.checkpoint,
        iteration=plan.network.iteration,
        architecture=config.architecture,
        unsafe_load_pickle=config.unsafe_load_pickle,
        factory=config.factory,
        probed=plan.network.probed,
    )
    if model.sha256 != plan.network.weights_sha256:
        raise RunStateError(
            f"{model.path} has changed since the run began: its weights' sha256 was "
            f"{plan.network.weights_sha256}, is now {model.sha256}."
        )
    array = open_input(
        plan.input.path,
        voxel_size=exact_lengths(plan.input.voxel_size),
        offset=exact_lengths(plan.input.offset),
        cache_bytes=plan.tiling.cache_bytes,
    )
    return Opened(config, model, array, device)


def workers_device(config: RunConfig) -> torch.device:
    """The workers' device, as far as that is known here. Raises ConfigError if it is not there."""
    if not config.is_elsewhere:
        return choose_device(config.device)
    if config.device == "cpu" or (config.device == "auto" and config.gpus == 0):
        return torch.device("cpu")
    return torch.device("cuda")


def _check_channels(model: TrainedModel, array: BlockSource) -> None:
    dims, spatial = model.shapes.dims, len(array.shape)
    if spatial not in (dims, dims + 1):
        raise ArrayError(
            f"{array.path} has {spatial} spatial axes {array.shape}, "
            f"but {model.path} is a {dims}-D network."
        )
    expected, channels = model.in_channels, array.channels or 1
    if channels != expected:
        raise ArrayError(
            f"{array.path} has {channels} channels, but {model.path} was trained on {expected}."
        )


def _check_exact(model: TrainedModel) -> None:
    if model.inexact is not None:
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
