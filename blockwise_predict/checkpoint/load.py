"""Opening a checkpoint: from a path to a network with its weights."""

from __future__ import annotations

import operator
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from blockwise_predict.checkpoint.activation import declare_activation
from blockwise_predict.checkpoint.described import described
from blockwise_predict.checkpoint.documents import read_document
from blockwise_predict.checkpoint.families import Family, names_above, recognise, unrecognised
from blockwise_predict.checkpoint.from_tensors import Shapes
from blockwise_predict.checkpoint.keys import normalise_keys
from blockwise_predict.checkpoint.locate import Location, locate
from blockwise_predict.checkpoint.packages import find_package, hub, open_package
from blockwise_predict.checkpoint.programs import find_program, open_program
from blockwise_predict.checkpoint.task_weights import join_heads
from blockwise_predict.checkpoint.trained import TrainedModel
from blockwise_predict.checkpoint.unet_model import UNetModel
from blockwise_predict.checkpoint.voxel_size import TRAINED_AT, document_voxel_size, size_record
from blockwise_predict.checkpoint.weights import read_weights
from blockwise_predict.config.values import HUB_SCHEME
from blockwise_predict.errors import CheckpointError, shown
from blockwise_predict.geometry.probed import Probed


def open_checkpoint(
    path: str | os.PathLike[str],
    *,
    iteration: int | None = None,
    architecture: str | os.PathLike[str] | None = None,
    activation: str | None = None,
    unsafe_load_pickle: bool = False,
    factory: str | None = None,
    input_shape: Sequence[int] | None = None,
    probed: Probed | None = None,
    reproduce: bool = True,
) -> TrainedModel:
    """Open a checkpoint as data, and check that its weights fit its architecture.

    A program that is not recognised as a U-Net, and the network of a factory, is probed: what it
    does with its input is found out by running it.

    path: a DaCapo run folder (`BASE/RUN`, with its YAML at `BASE/configs/runs/RUN.yaml`), one of
        its iteration files, a folder of cellmap-models, a bioimage.io package (a folder or a zip
        archive), a program (TorchScript, torch.export or ONNX), or bare weights; any of these also
        on the Hugging Face Hub (`hf://OWNER/REPO@REVISION/PATH`). Bare weights are a `.safetensors`
        file, or a torch file with a state dictionary, `{"model": state dictionary, ...}` or
        `{"model_state_dict": ...}`, of DaCapo's model, a CNNectomeUNet, a CNNectomeUNetModule or a
        U-Net of funlib.learn.torch. Those of fly_organelles and COSEM need no description, see
        `families`.
    iteration: which iteration of a run folder; the latest by default. Of what holds a single
        network, no other than the one it states.
    architecture: a YAML file that describes bare weights: a DaCapo run's YAML; a mapping with
        `architecture` and optionally `task`, with the keys of DaCapo's architecture and task
        configurations; or the architecture's keys alone. Without a task the network has no head,
        and its channels are named channel_0 and so on. With `tasks`, a mapping of names to tasks
        (see `parse_tasks`), it has an output for each of them. `input_voxel_size`, beside
        `architecture`, is the voxel size in nm that it was trained at.
    activation: `none`, `sigmoid` or `tanh`, applied after a network whose files do not contain its
        activation.
    unsafe_load_pickle: unpickle files that need more than plain data, which runs their code.
    factory: `package.module:function` or `path/to/file.py:function`, which builds the network (a
        torch.nn.Module), and gets the checkpoint's path if it takes an argument.
    input_shape: of a program, a shape (spatial axes) that it takes; found by trying by default.
    probed: of a program, what is already known about it, so that it is not probed again.
    reproduce: whether the network of a bioimage.io package has to reproduce its test tensors; not
        needed for weights whose hash shows that they did already.

    Raises CheckpointError for files that are missing, unreadable, unsafe or damaged, and for
    weights that do not fit the architecture.
    """
    if str(path).startswith(HUB_SCHEME):
        return _open_hub(
            str(path),
            iteration=iteration,
            architecture=architecture,
            activation=activation,
            unsafe_load_pickle=unsafe_load_pickle,
            factory=factory,
            input_shape=input_shape,
            probed=probed,
            reproduce=reproduce,
        )
    options = {
        "checkpoint": str(path),
        "iteration": iteration,
        "architecture": None if architecture is None else str(architecture),
        "unsafe_load_pickle": unsafe_load_pickle,
    }
    if factory is not None and (program := find_program(path, factory)) is not None:
        options |= {"factory": factory}
        _check_iteration(iteration, None, path)
        _check_architecture(architecture, f"--factory {factory} builds the network")
        built = open_program(program, path, input_shape=input_shape, probed=probed, options=options)
        unsaid = replace(built, undeclared=("activation", "normalization"))
        return declare_activation(unsaid, activation)
    if isinstance(path, (str, os.PathLike)):
        with find_package(Path(path)) as package:
            if package is not None:
                _check_architecture(architecture, f"{path} describes its own network")
                _check_iteration(iteration, package.iteration, path)
                model = open_package(
                    package, options, input_shape=input_shape, probed=probed, reproduce=reproduce
                )
                return declare_activation(model, activation)
    location = _locate(path, iteration, architecture)
    document = None if location.document is None else read_document(location.document)
    state: Mapping[str, torch.Tensor] = read_weights(location.weights, unsafe=unsafe_load_pickle)
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    network = _network(location, document, shapes)
    if network.task_heads:
        state = join_heads(
            state, network.task_heads, network.config.num_heads > 1, location.weights
        )
    size, size_source = document_voxel_size(document or {}, location.document or location.weights)
    model = UNetModel(
        path=str(location.weights),
        run=location.run,
        iteration=location.iteration,
        architecture=network.config,
        head=network.head,
        channel_names=network.channel_names,
        named_outputs=network.named_outputs,
        weights=normalise_keys(state, location.weights),
        voxel_size=size,
        voxel_size_source=size_source,
        record={"family": network.text, **size_record(TRAINED_AT, size)},
        undeclared=network.undeclared,
        options=options,
    )
    model.build()
    return declare_activation(model, activation)


def _check_iteration(asked: int | None, own: int | None, path: str | os.PathLike[str]) -> None:
    """Raise CheckpointError for another iteration than the only one of a package or program."""
    if asked not in (None, own):
        named = "" if own is None else f", of iteration {own}"
        raise CheckpointError(
            f"iteration {asked}: checkpoint {path} holds a single network{named}. Leave "
            "--iteration (iteration= in Python) out."
        )


def _check_architecture(architecture: object, instead: str) -> None:
    """Raise CheckpointError if a network is described that needs no description."""
    if architecture is not None:
        raise CheckpointError(
            f"architecture {architecture}: {instead}; only bare weights need a description. Leave "
            "--architecture (architecture= in Python) out."
        )


def _network(location: Location, document: dict[str, Any] | None, shapes: Shapes) -> Family:
    """What network the tensors are of: from the YAML, else recognised by names and shapes."""
    if document is not None and location.document is not None:
        return described(document, location.document, shapes)
    family = recognise(shapes, names_above(location.weights))
    if family is None:
        raise CheckpointError(
            f"checkpoint {location.weights}: {unrecognised(shapes)}. Describe it with "
            "--architecture arch.yaml (architecture= in Python), for example the YAML of its "
            "DaCapo run. For a network of another kind, name a function that builds it with "
            "--factory."
        )
    return family


def _open_hub(address: str, **options: Any) -> TrainedModel:
    """Open a checkpoint on the Hub as its files in the cache; its options name the commit."""
    files = hub.fetch(hub.HubAddress.parse(address), bare=options["architecture"] is not None)
    model = open_checkpoint(files.path, **options)
    return replace(
        model,
        options={**model.options, "checkpoint": files.address},
        cached=str(files.path),
        record={**model.record, **files.record},
    )


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
