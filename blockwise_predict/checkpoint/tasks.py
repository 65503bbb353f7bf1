"""Several tasks of one network: the `tasks` of an architecture document."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from blockwise_predict.checkpoint.head import (
    MAX_CHANNELS,
    Head,
    TrainedHead,
    parse_task,
    task_names,
)
from blockwise_predict.checkpoint.outputs import NetworkOutput
from blockwise_predict.errors import CheckpointError, shown

MAX_TASKS = 64
# What an array in a group can be called in every format, and an option can name.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,99}")
# Bounds that activations guarantee.
_RANGES: dict[str | None, tuple[float, float] | None] = {
    "Sigmoid": (0.0, 1.0),
    "Tanh": (-1.0, 1.0),
    "ReLU": None,
    None: None,
}
_KEYS = ("channels", "activation", "kernel_size", "head")


@dataclass(frozen=True)
class TaskHead:
    """A task's output, and its head: a valid convolution of `kernel_size` with the output's
    channels. `layer` is the head's name in the state dictionary, if the document says so."""

    output: NetworkOutput
    kernel_size: int
    layer: str | None


def parse_tasks(tasks: Any, dims: int, origin: Path, trained: TrainedHead) -> tuple[TaskHead, ...]:
    """The heads of a document's `tasks`, a mapping of names to tasks, for a `dims`-D network.

    A task is one of DaCapo's (`__type__` names it), or a plain head: `channels` (names, or their
    number), `activation` (Sigmoid, Tanh, ReLU; none by default) and `kernel_size` (1 by default).
    With `head: NAME` either says which layer of the weights is its head. Raises CheckpointError.
    """
    if not isinstance(tasks, dict) or not 0 < len(tasks) <= MAX_TASKS:
        raise CheckpointError(
            f"{origin}: tasks is {shown(tasks)}, but must be a mapping of up to {MAX_TASKS} names "
            "to tasks."
        )
    heads = []
    for name, task in tasks.items():
        if not isinstance(name, str) or _NAME.fullmatch(name) is None:
            raise CheckpointError(
                f"{origin}: {shown(name)} cannot name a task: use up to 100 letters, digits, _ "
                "and -, beginning with a letter."
            )
        heads.append(_parse(name, task, dims, origin, trained))
    return tuple(heads)


def _parse(name: str, task: Any, dims: int, origin: Path, trained: TrainedHead) -> TaskHead:
    if not isinstance(task, dict):
        raise CheckpointError(f"{origin}: task {name} must be a mapping, not {shown(task)}.")
    layer = task.get("head")
    if layer is not None and (not isinstance(layer, str) or not layer):
        raise CheckpointError(
            f"{origin}: head of task {name} is {shown(layer)}, not the name of a layer."
        )
    if "__type__" in task:
        given = {key: value for key, value in task.items() if key != "head"}
        head, names = parse_task(given, dims, origin, replace(trained, channels=None))
        kernel_size, activation = head.kernel_size, head.activation
    else:
        kernel_size, activation, names = _plain_head(name, task, origin)
    return TaskHead(NetworkOutput(name, names, _RANGES[activation], activation), kernel_size, layer)


def _plain_head(
    name: str, task: dict[Any, Any], origin: Path
) -> tuple[int, str | None, tuple[str, ...]]:
    """Kernel size, activation and channel names of a task that is not one of DaCapo's."""
    unknown = [key for key in task if key not in _KEYS]
    if unknown or "channels" not in task:
        problem = f"has the unknown key {shown(unknown[0])}" if unknown else "lacks channels"
        raise CheckpointError(
            f"{origin}: task {name} {problem}. Its keys are {', '.join(_KEYS)}; a task of DaCapo "
            "has its kind in __type__."
        )
    activation, kernel_size = task.get("activation"), task.get("kernel_size", 1)
    if not isinstance(activation, str | None) or activation not in _RANGES:
        known = ", ".join(key for key in _RANGES if key)
        raise CheckpointError(
            f"{origin}: activation of task {name} is {shown(activation)}, but can be {known}, or "
            "left out."
        )
    if type(kernel_size) is not int or not 1 <= kernel_size <= 63:
        raise CheckpointError(
            f"{origin}: kernel_size of task {name} is {shown(kernel_size)}, but must be 1 to 63."
        )
    channels = task["channels"]
    if type(channels) is int and 0 < channels <= MAX_CHANNELS:
        return kernel_size, activation, tuple(f"{name}_{n}" for n in range(channels))
    try:
        return kernel_size, activation, task_names(task, "channels")
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{origin}: task {name}: {error}, or their number.") from None


def joint_head(heads: tuple[TaskHead, ...], origin: Path) -> Head:
    """One convolution with the channels of all heads.

    It has the largest of their kernels, in which smaller ones are centred, with zeros around them.
    Raises CheckpointError if they have no common centre.
    """
    sizes = {head.kernel_size for head in heads}
    if len({size % 2 for size in sizes}) > 1:
        raise CheckpointError(
            f"{origin}: the tasks' kernels of {', '.join(map(str, sorted(sizes)))} have no common "
            "centre: some sizes are odd, others even."
        )
    activations = {head.output.activation for head in heads}
    return Head(
        task=", ".join(head.output.name for head in heads),
        kernel_size=max(sizes),
        channels=sum(len(head.output.channel_names) for head in heads),
        activation=activations.pop() if len(activations) == 1 else None,
    )


def expanding_path_outputs(count: int, fmaps_out: int) -> tuple[NetworkOutput, ...]:
    """The outputs of a U-Net with several expanding paths and no tasks: `head_0` and so on."""
    return tuple(
        NetworkOutput(
            f"head_{path}", tuple(f"head_{path}_{number}" for number in range(fmaps_out)), None
        )
        for path in range(count)
    )
