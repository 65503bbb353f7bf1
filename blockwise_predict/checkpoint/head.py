"""Prediction heads of DaCapo's tasks, as dacapo-ml 0.3.5 builds them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from blockwise_predict.errors import CheckpointError, shown

# The default of one-hot and hot-distance tasks.
DEFAULT_KERNEL_SIZE = 3
MAX_KERNEL_SIZE = 63
MAX_CHANNELS = 4096
MAX_NAME = 200

Task = dict[str, Any]
Names = tuple[str, ...]


# Channels of local shape descriptors, by the network's dimensions.
_LSD_CHANNELS = {2: 6, 3: 10, 4: 10}


@dataclass(frozen=True)
class TrainedHead:
    """What a file of weights says about the head.

    channels: output channels of its convolution, None if there is none.
    newer: whether a version of DaCapo after 0.3.5 wrote the file.
    """

    channels: int | None
    newer: bool


@dataclass(frozen=True)
class Head:
    """A prediction head: a valid convolution after the architecture, and an activation.

    task: kind of the task, such as 'affinities'.
    activation: name of a `torch.nn` class, or None; applied for prediction only.
    """

    task: str
    kernel_size: int
    channels: int
    activation: str | None


def parse_task(task: Any, dims: int, origin: Path, trained: TrainedHead) -> tuple[Head, Names]:
    """Head and channel names of a task configuration for a `dims`-D network.

    With time, `dims` is 4, and offsets of affinities may be of space alone. `__type__` names the
    task. The version of DaCapo shows in the names of affinities, and in whether the head has
    channels for local shape descriptors (`lsds`), which it does not in 0.3.5. Raises
    CheckpointError for an unknown task, and for missing or invalid keys.
    """
    if not isinstance(task, dict):
        raise CheckpointError(f"{origin}: the task must be a mapping, not {shown(task)}.")
    kind = task.get("__type__")
    if kind == "PretrainedTaskConfig":
        # A wrapper that only adds the weights from which training starts.
        return parse_task(task.get("sub_task_config"), dims, origin, trained)
    make = _TASKS.get(kind) if isinstance(kind, str) else None
    if make is None:
        problem = (
            f"task {shown(kind)} is not supported"
            if "__type__" in task
            else "the task has no key __type__, which says what kind of task it is"
        )
        raise CheckpointError(f"{origin}: {problem}. Known: {', '.join(sorted(_TASKS))}.")
    try:
        head, names = make(task)
    except KeyError as error:
        raise CheckpointError(f"{origin}: the task ({kind}) lacks {error.args[0]}.") from None
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{origin}: invalid value in the task ({kind}): {error}.") from None
    allowed = (dims, 3) if dims == 4 else (dims,)
    if head.task == "affinities" and any(len(o) not in allowed for o in task["neighborhood"]):
        raise CheckpointError(
            f"{origin}: the offsets in neighborhood {shown(task['neighborhood'])} must have "
            f"{' or '.join(map(str, allowed))} axes, as the network has."
        )
    if head.task == "affinities" and trained.newer:
        names = tuple("aff_" + ".".join(map(str, offset)) for offset in task["neighborhood"])
    lsds = _LSD_CHANNELS[dims]
    if head.task == "affinities" and task.get("lsds") and trained.channels == len(names) + lsds:
        names += tuple(f"lsd_{number}" for number in range(lsds))
        head = replace(head, channels=len(names))
    return head, names


def _affinities(task: Task) -> tuple[Head, Names]:
    offsets = _listed(task, "neighborhood")
    for offset in offsets:
        if not isinstance(offset, (list, tuple)) or not all(type(step) is int for step in offset):
            raise ValueError(f"neighborhood has {shown(offset)}, not a list of whole numbers")
    names = tuple("aff_" + "_".join(map(str, offset)) for offset in offsets)
    return Head("affinities", 1, len(names), "Sigmoid"), names


def _one_hot(task: Task) -> tuple[Head, Names]:
    names = task_names(task, "classes")
    return Head("one_hot", _kernel_size(task), len(names), None), names


def _distance(task: Task) -> tuple[Head, Names]:
    names = task_names(task, "channels")
    return Head("distance", 1, len(names), None), names


def _inner_distance(task: Task) -> tuple[Head, Names]:
    names = task_names(task, "channels")
    return Head("inner_distance", 1, len(names), None), names


def _hot_distance(task: Task) -> tuple[Head, Names]:
    labels = task_names(task, "channels")
    # One mask per label, then one distance per label.
    names = labels + tuple(f"{label}_distance" for label in labels)
    return Head("hot_distance", _kernel_size(task), len(names), None), names


def task_names(task: Task, key: str) -> Names:
    """The names that a task lists. Raises KeyError and ValueError."""
    items = _listed(task, key)
    for item in items:
        if not isinstance(item, str | int) or len(str(item)) > MAX_NAME:
            raise ValueError(f"{key} has {shown(item)}, which is not a name")
    return tuple(map(str, items))


def _listed(task: Task, key: str) -> list[Any]:
    items = task[key]
    if not isinstance(items, (list, tuple)) or not 0 < len(items) <= MAX_CHANNELS:
        raise ValueError(
            f"{key} is {shown(items)}, but must be a list of 1 to {MAX_CHANNELS} items"
        )
    return list(items)


def _kernel_size(task: Task) -> int:
    size = task.get("kernel_size")
    if size is None:
        return DEFAULT_KERNEL_SIZE
    if type(size) is not int or not 1 <= size <= MAX_KERNEL_SIZE:
        raise ValueError(f"kernel_size is {shown(size)}, but must be 1 to {MAX_KERNEL_SIZE}")
    return size


_TASKS: dict[str, Callable[[Task], tuple[Head, Names]]] = {
    "AffinitiesTaskConfig": _affinities,
    "DistanceTaskConfig": _distance,
    "HotDistanceTaskConfig": _hot_distance,
    "InnerDistanceTaskConfig": _inner_distance,
    "OneHotTaskConfig": _one_hot,
}


def task_document(head: Head, names: Names) -> Task | None:
    """A task configuration from which `parse_task` makes this head and these channel names.

    None for a head that is not of a DaCapo task.
    """
    kind = _KINDS.get(head.task)
    if kind is None:
        return None
    if head.task == "affinities":
        texts = [name.removeprefix("aff_") for name in names if name.startswith("aff_")]
        offsets = [list(map(int, text.replace(".", "_").split("_"))) for text in texts]
        lsds = {"lsds": True} if len(offsets) < len(names) else {}
        return {"__type__": kind, "neighborhood": offsets, **lsds}
    if head.task == "one_hot":
        return {"__type__": kind, "classes": list(names), "kernel_size": head.kernel_size}
    if head.task == "hot_distance":
        labels = names[: len(names) // 2]
        return {"__type__": kind, "channels": list(labels), "kernel_size": head.kernel_size}
    return {"__type__": kind, "channels": list(names)}


_KINDS = {
    "affinities": "AffinitiesTaskConfig",
    "distance": "DistanceTaskConfig",
    "hot_distance": "HotDistanceTaskConfig",
    "inner_distance": "InnerDistanceTaskConfig",
    "one_hot": "OneHotTaskConfig",
}
