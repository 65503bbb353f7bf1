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
from blockwise_predict.errors import CheckpointError


def export_weights(model: TrainedModel, weights: Path, document: Path) -> None:
    """Write normalised weights as safetensors, and architecture and task as YAML.

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
        # Cloned, since safetensors refuses tensors that share memory.
        save_file(
            {name: tensor.clone().contiguous() for name, tensor in model.weights.items()},
            new_weights,
        )
        new_document.write_text(yaml.safe_dump(_described(model), sort_keys=False))
        read = open_checkpoint(new_weights, architecture=new_document)
        assert isinstance(read, UNetModel)
        if _identity(read) != _identity(model):
            raise CheckpointError(
                f"{model.path}: its description would not give the same network. "
                "Export it as .pt2 instead."
            )


def _described(model: UNetModel) -> dict[str, Any]:
    document: dict[str, Any] = {"architecture": model.architecture_dict()}
    if model.head is not None:
        document["task"] = task_document(model.head, model.channel_names)
    return document


def _identity(model: UNetModel) -> tuple[object, ...]:
    return model.sha256, model.architecture_dict(), model.head, model.channel_names
