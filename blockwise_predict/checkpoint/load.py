"""Opening a checkpoint: from a path to a network with its weights."""

from __future__ import annotations

import operator
import os
from collections.abc import Sequence
from pathlib import Path

from blockwise_predict.checkpoint.documents import parse_architecture, read_document, split_document
from blockwise_predict.checkpoint.head import parse_task
from blockwise_predict.checkpoint.keys import normalise_keys
from blockwise_predict.checkpoint.locate import Location, locate
from blockwise_predict.checkpoint.programs import find_program, open_program
from blockwise_predict.checkpoint.trained import TrainedModel
from blockwise_predict.checkpoint.unet_model import UNetModel
from blockwise_predict.checkpoint.weights import read_weights
from blockwise_predict.errors import CheckpointError, shown
from blockwise_predict.geometry.probed import Probed


def open_checkpoint(
    path: str | os.PathLike[str],
    *,
    iteration: int | None = None,
    architecture: str | os.PathLike[str] | None = None,
    unsafe_load_pickle: bool = False,
    factory: str | None = None,
    input_shape: Sequence[int] | None = None,
    probed: Probed | None = None,
) -> TrainedModel:
    """Open a checkpoint as data, and check that its weights fit its architecture.

    A program (TorchScript, torch.export, ONNX, or a factory's) is probed: what it does with its
    input is found out by running it.

    path: a DaCapo run folder (`BASE/RUN`, with its YAML at `BASE/configs/runs/RUN.yaml`), one of
        its iteration files, or bare weights. Bare weights are a `.safetensors` file, or a torch
        file with a state dictionary or `{"model": state dictionary, ...}`, of DaCapo's model, a
        CNNectomeUNet or a CNNectomeUNetModule.
    iteration: which iteration of a run folder; the latest by default.
    architecture: a YAML file that describes bare weights: a DaCapo run's YAML; a mapping with
        `architecture` and optionally `task`, with the keys of DaCapo's architecture and task
        configurations; or the architecture's keys alone. Without a task the network has no head,
        and its channels are named channel_0 and so on.
    unsafe_load_pickle: unpickle files that need more than plain data, which runs their code.
    factory: `package.module:function` or `path/to/file.py:function`, which builds the network (a
        torch.nn.Module), and gets the checkpoint's path if it takes an argument.
    input_shape: of a program, a shape (spatial axes) that it takes; found by trying by default.
    probed: of a program, what is already known about it, so that it is not probed again.

    Raises CheckpointError for files that are missing, unreadable, unsafe or damaged, and for
    weights that do not fit the architecture.
    """
    if (program := find_program(path, factory)) is not None:
        options = {"checkpoint": str(path), "factory": factory}
        return open_program(program, path, input_shape=input_shape, probed=probed, options=options)
    location = _locate(path, iteration, architecture)
    settings, task = split_document(read_document(location.document))
    config = parse_architecture(settings, location.document)
    head, names = None, tuple(f"channel_{number}" for number in range(config.fmaps_out))
    if task is not None:
        head, names = parse_task(task, len(config.input_shape), location.document)
    state = read_weights(location.weights, unsafe=unsafe_load_pickle)
    model = UNetModel(
        path=str(location.weights),
        run=location.run,
        iteration=location.iteration,
        architecture=config,
        head=head,
        channel_names=names,
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
