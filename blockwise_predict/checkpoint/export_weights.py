"""Export of a checkpoint as plain data: its weights, and a YAML file that describes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import save_file

from blockwise_predict.checkpoint.head import task_document
from blockwise_predict.checkpoint.load import open_checkpoint
from blockwise_predict.checkpoint.new_file import new_file
from blockwise_predict.checkpoint.trained import TrainedModel
from blockwise_predict.checkpoint.unet_model import UNetModel
from blockwise_predict.checkpoint.voxel_size import KEY, usable_size
from blockwise_predict.errors import CheckpointError

_Keys = tuple[str, str]
# Prefixes of the architecture's and the head's keys.
_DACAPO: _Keys = ("architecture.unet.", "prediction_head.")
_NEWER_DACAPO: _Keys = ("chain.0.", "chain.1.")
_FUNLIB: _Keys = ("unet_backbone.", "final_conv.")


def export_weights(model: TrainedModel, weights: Path, document: Path) -> None:
    """Write weights as safetensors, and architecture and task as YAML.

    `open_checkpoint` reads both back to a network with the same hash, head and channels; that is
    checked before the files get their names. Raises CheckpointError for a network that is not a
    CNNectomeUNet, since it cannot be built from a description.
    """
    if not isinstance(model, UNetModel):
        raise CheckpointError(
            f"{model.path} is not a CNNectomeUNet: weights and a description are not enough to "
            "build it again. Export it as .pt2, which includes its operations."
        )
    with new_file(weights) as new_weights, new_file(document) as new_document:
        content, keys = _described(model)
        # Cloned, since safetensors refuses tensors that share memory.
        save_file(
            {_key(name, keys): t.clone().contiguous() for name, t in model.weights.items()},
            new_weights,
        )
        new_document.write_text(yaml.safe_dump(content, sort_keys=False))
        read = open_checkpoint(new_weights, architecture=new_document)
        assert isinstance(read, UNetModel)
        if _identity(read) != _identity(model):
            raise CheckpointError(
                f"{model.path}: its description would not give the same network. "
                "Export it as .pt2 instead."
            )


def _described(model: UNetModel) -> tuple[dict[str, Any], _Keys]:
    """Architecture and task, and the style of keys, which says whose head it is."""
    document: dict[str, Any] = {"architecture": model.architecture_dict()}
    if (size := usable_size(model.voxel_size)) is not None:
        document[KEY] = list(size)
    if model.head is None:
        return document, _DACAPO
    task = task_document(model.head, model.channel_names)
    if task is None:
        return document, _FUNLIB
    newer = any(name.startswith("aff_") and "." in name for name in model.channel_names)
    return {**document, "task": task}, _NEWER_DACAPO if newer else _DACAPO


def _key(name: str, keys: _Keys) -> str:
    """A normalised key in another style."""
    for normalised, prefix in zip(_DACAPO, keys, strict=True):
        if name.startswith(normalised):
            return prefix + name.removeprefix(normalised)
    return name


def _identity(model: UNetModel) -> tuple[object, ...]:
    return model.sha256, model.architecture_dict(), model.head, model.channel_names
