"""Networks described by a document: a DaCapo run's YAML, or one like it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from blockwise_predict.architectures import CNNectomeUNetConfig
from blockwise_predict.architectures.config import BEYOND_DACAPO
from blockwise_predict.checkpoint.documents import parse_architecture, split_document
from blockwise_predict.checkpoint.families import (
    ACTIVATION,
    Family,
    key_style,
    numbered_channels,
    tensor_head,
)
from blockwise_predict.checkpoint.from_tensors import Shapes, settings_of
from blockwise_predict.checkpoint.head import Head, TrainedHead, parse_task
from blockwise_predict.checkpoint.keys import normalise_key
from blockwise_predict.checkpoint.tasks import (
    TaskHead,
    expanding_path_outputs,
    joint_head,
    parse_tasks,
)
from blockwise_predict.errors import CheckpointError


def described(document: dict[str, Any], origin: Path, shapes: Shapes) -> Family:
    """The network that a document describes, for tensors with these names and shapes.

    Settings that DaCapo's configurations do not have are taken from the tensors, if they are not in
    the document. Raises CheckpointError for an invalid document.
    """
    settings, task = split_document(document)
    tensors = settings_of(shapes)
    if tensors is not None:
        found = {key: tensors.settings[key] for key in BEYOND_DACAPO if key in tensors.settings}
        settings = {**found, **settings}
    config = parse_architecture(settings, origin)
    dims = len(config.input_shape)
    head: Head | None = None
    undeclared: tuple[str, ...] = ()
    names = numbered_channels(config.fmaps_out)
    tasks = document.get("tasks")
    if tasks is not None or config.num_heads > 1:
        return _with_outputs(config, task, tasks, origin, shapes)
    if task is not None:
        head, names = parse_task(task, dims, origin, _trained_head(shapes))
    elif tensors is not None and any("final_conv." in name for name in shapes):
        head = tensor_head(tensors, "fly_organelles")
        names, undeclared = numbered_channels(head.channels), (ACTIVATION,)
    reason = f"{key_style(shapes)}, described by {origin}"
    return Family("CNNectomeUNet", reason, config, head, names, undeclared)


def _with_outputs(
    config: CNNectomeUNetConfig, task: Any, tasks: Any, origin: Path, shapes: Shapes
) -> Family:
    """A network with several outputs: one for each task, or else for each expanding path."""
    if task is not None:
        wrong = (
            "has both task and tasks: give one of them"
            if tasks is not None
            else f"has num_heads {config.num_heads}, but one task: give tasks, a mapping of names "
            "to tasks"
        )
        raise CheckpointError(f"{origin} {wrong}.")
    heads: tuple[TaskHead, ...] = ()
    head = None
    outputs = expanding_path_outputs(config.num_heads, config.fmaps_out)
    if tasks is not None:
        dims = len(config.downsample_factors[0])
        heads = parse_tasks(tasks, dims, origin, _trained_head(shapes))
        if config.num_heads not in (1, len(heads)):
            raise CheckpointError(
                f"{origin}: num_heads is {config.num_heads}, but there are {len(heads)} tasks: "
                "each head of the U-Net has one."
            )
        head, outputs = joint_head(heads, origin), tuple(each.output for each in heads)
    return Family(
        "CNNectomeUNet",
        f"{key_style(shapes)}, described by {origin}",
        config,
        head,
        tuple(name for output in outputs for name in output.channel_names),
        (),
        outputs,
        heads,
    )


def _trained_head(shapes: Shapes) -> TrainedHead:
    named = {normalise_key(name): shape for name, shape in shapes.items()}
    head = named.get("prediction_head.weight")
    newer = any("chain.0." in name for name in shapes) and not any(
        "architecture." in name for name in shapes
    )
    return TrainedHead(head[0] if head else None, newer)
