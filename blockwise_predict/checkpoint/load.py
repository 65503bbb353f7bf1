"""Opening a checkpoint: from a path to a network with its weights."""

from __future__ import annotations

import operator
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from blockwise_predict.architectures import CNNectomeUNetConfig
from blockwise_predict.checkpoint.documents import parse_architecture, read_document, split_document
from blockwise_predict.checkpoint.head import Head, parse_task
from blockwise_predict.checkpoint.keys import normalise_keys
from blockwise_predict.checkpoint.locate import Location, locate
from blockwise_predict.checkpoint.outputs import NetworkOutput
from blockwise_predict.checkpoint.task_weights import join_heads
from blockwise_predict.checkpoint.tasks import (
    TaskHead,
    expanding_path_outputs,
    joint_head,
    parse_tasks,
)
from blockwise_predict.checkpoint.trained import TrainedModel
from blockwise_predict.checkpoint.unet_model import UNetModel
from blockwise_predict.checkpoint.weights import read_weights
from blockwise_predict.errors import CheckpointError, shown


def open_checkpoint(
    path: str | os.PathLike[str],
    *,
    iteration: int | None = None,
    architecture: str | os.PathLike[str] | None = None,
    unsafe_load_pickle: bool = False,
) -> TrainedModel:
    """Open a checkpoint as data, and check that its weights fit its architecture.

    path: a DaCapo run folder (`BASE/RUN`, with its YAML at `BASE/configs/runs/RUN.yaml`), one of
        its iteration files, or bare weights. Bare weights are a `.safetensors` file, or a torch
        file with a state dictionary or `{"model": state dictionary, ...}`, of DaCapo's model, a
        CNNectomeUNet or a CNNectomeUNetModule.
    iteration: which iteration of a run folder; the latest by default.
    architecture: a YAML file that describes bare weights: a DaCapo run's YAML; a mapping with
        `architecture` and optionally `task`, with the keys of DaCapo's architecture and task
        configurations; or the architecture's keys alone. Without a task the network has no head,
        and its channels are named channel_0 and so on. With `tasks`, a mapping of names to tasks
        (see `parse_tasks`), it has an output for each of them.
    unsafe_load_pickle: unpickle files that need more than plain data, which runs their code.

    Raises CheckpointError for files that are missing, unreadable, unsafe or damaged, and for
    weights that do not fit the architecture.
    """
    location = _locate(path, iteration, architecture)
    document = read_document(location.document)
    settings, task = split_document(document)
    config = parse_architecture(settings, location.document)
    heads = _heads(document.get("tasks"), task, config, location.document)
    head, outputs = _head_and_outputs(heads, task, config, location.document)
    state: Mapping[str, torch.Tensor] = read_weights(location.weights, unsafe=unsafe_load_pickle)
    if heads:
        state = join_heads(state, heads, config.num_heads > 1, location.weights)
    model = UNetModel(
        path=str(location.weights),
        run=location.run,
        iteration=location.iteration,
        architecture=config,
        head=head,
        channel_names=tuple(name for output in outputs for name in output.channel_names),
        named_outputs=outputs if outputs[0].name else (),
        weights=normalise_keys(state, location.weights),
        options={
            "checkpoint": str(path),
            "iteration": iteration,
            "architecture": None if architecture is None else str(architecture),
            "unsafe_load_pickle": unsafe_load_pickle,
        },
    )
    model.build()
    return model


def _heads(
    tasks: Any, task: Any, config: CNNectomeUNetConfig, origin: Path
) -> tuple[TaskHead, ...]:
    """The heads of a document's `tasks`; none if it has no such key."""
    if tasks is None:
        return ()
    if task is not None:
        raise CheckpointError(f"{origin} has both task and tasks: give one of them.")
    heads = parse_tasks(tasks, len(config.input_shape), origin)
    if config.num_heads not in (1, len(heads)):
        raise CheckpointError(
            f"{origin}: num_heads is {config.num_heads}, but there are {len(heads)} tasks: each "
            "head of the U-Net has one."
        )
    return heads


def _head_and_outputs(
    heads: tuple[TaskHead, ...], task: Any, config: CNNectomeUNetConfig, origin: Path
) -> tuple[Head | None, tuple[NetworkOutput, ...]]:
    """The network's head and its outputs; the only output of a network has no name."""
    if heads:
        return joint_head(heads, origin), tuple(head.output for head in heads)
    if config.num_heads > 1:
        if task is not None:
            raise CheckpointError(
                f"{origin}: num_heads is {config.num_heads}, but there is one task. Give tasks, a "
                "mapping of names to tasks."
            )
        return None, expanding_path_outputs(config.num_heads, config.fmaps_out)
    head, names = None, tuple(f"channel_{number}" for number in range(config.fmaps_out))
    if task is not None:
        head, names = parse_task(task, len(config.input_shape), origin)
    return head, (NetworkOutput("", names, None),)


def _locate(
    path: str | os.PathLike[str],
    iteration: int | None,
    architecture: str | os.PathLike[str] | None,
) -> Location:
    """The checkpoint's files; CheckpointError for arguments that are not paths or an iteration."""
    try:
        weights = Path(path)
        document = None if architecture is None else Path(architecture)
        number = None if iteration is None else operator.index(iteration)
    except TypeError:
        raise CheckpointError(
            f"checkpoint {shown(path)}, iteration {shown(iteration)}, architecture "
            f"{shown(architecture)}: the checkpoint and its architecture are paths, the iteration "
            "is a whole number."
        ) from None
    try:
        return locate(weights, number, document)
    except OSError as error:
        raise CheckpointError(f"checkpoint {path} cannot be read ({error.strerror}).") from None
