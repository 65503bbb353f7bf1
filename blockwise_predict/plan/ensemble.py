"""Ensembles: several checkpoints whose predictions are averaged."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

from blockwise_predict.checkpoint import FACTORY, TrainedModel, open_checkpoint
from blockwise_predict.config.model import RunConfig
from blockwise_predict.errors import CheckpointError, RunStateError, shown
from blockwise_predict.plan.parts import NetworkPlan


def open_models(config: RunConfig) -> list[TrainedModel]:
    """Open the checkpoints of a configuration. Raises CheckpointError if one cannot be opened."""
    own = {"iteration": config.iteration, "input_shape": config.tile_shape}
    return [_open(config, path, file, **own) for path, file in config.checkpoints]


def reopen_models(config: RunConfig, networks: Sequence[NetworkPlan]) -> list[TrainedModel]:
    """Open the checkpoints of a plan again. Raises RunStateError if weights have changed since."""
    models = []
    for (path, architecture), network in zip(config.checkpoints, networks, strict=True):
        if network.architecture.get("program") == FACTORY and config.factory is None:
            raise CheckpointError(
                f"the run's network, of {path}, was {FACTORY}. Add that option to this command, "
                "with the same function: no record can allow code to be executed."
            )
        # What is compared here reproduced its package's test tensors when the plan was made.
        own = {"iteration": network.iteration, "probed": network.probed, "reproduce": False}
        model = _open(config, network.cached or path, architecture, **own)
        if model.sha256 != network.weights_sha256:
            raise RunStateError(
                f"{model.path} has changed since the run began: its weights' sha256 was "
                f"{network.weights_sha256}, is now {model.sha256}."
            )
        _check_architecture(model, network)
        models.append(model)
    return models


def _check_architecture(model: TrainedModel, network: NetworkPlan) -> None:
    """Raise RunStateError if settings that leave no trace in the weights have changed."""
    found, recorded = (
        json.loads(json.dumps(each)) for each in (model.architecture_dict(), network.architecture)
    )
    for key in sorted(found.keys() | recorded.keys()):
        if found.get(key) != recorded.get(key):
            raise RunStateError(
                f"{model.path}: its architecture has changed since the run began: {key} was "
                f"{shown(recorded.get(key))}, is now {shown(found.get(key))}."
            )


def _open(config: RunConfig, path: str, architecture: str | None, **own: Any) -> TrainedModel:
    """Open a checkpoint with what is configured for all of them; `own` is for this one."""
    return open_checkpoint(
        path,
        architecture=architecture,
        activation=config.activation,
        unsafe_load_pickle=config.unsafe_load_pickle,
        factory=config.factory,
        **own,
    )


def check_agreement(models: Sequence[TrainedModel]) -> None:
    """Raise CheckpointError unless all predict the same channels on the same grid, with different
    weights."""
    for one, other in combinations(models, 2):
        if one.sha256 == other.sha256 and one.architecture_dict() == other.architecture_dict():
            raise CheckpointError(
                f"{one.path} and {other.path} hold the same weights, which would count twice in "
                "the mean. Leave one of them out."
            )
    for other in models[1:]:
        for name, ours, theirs in _differences(models[0], other):
            raise CheckpointError(
                f"the mean of {models[0].path} and {other.path} cannot be taken: they differ in "
                f"their {name}, {ours} and {theirs}."
            )


def _differences(one: TrainedModel, other: TrainedModel) -> Iterator[tuple[str, object, object]]:
    for name, ours, theirs in (
        ("number of axes", one.shapes.dims, other.shapes.dims),
        ("output voxels per input voxel", one.shapes.scale, other.shapes.scale),
        ("input channels", one.in_channels, other.in_channels),
        ("channels", ", ".join(one.channel_names), ", ".join(other.channel_names)),
        ("range of values", one.output_range, other.output_range),
    ):
        if ours != theirs:
            yield name, ours, theirs
