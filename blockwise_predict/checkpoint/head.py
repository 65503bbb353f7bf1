"""Prediction heads of DaCapo's tasks, as dacapo-ml 0.3.5 builds them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blockwise_predict.errors import CheckpointError

# What one-hot and hot-distance tasks use when their kernel_size is not given.
DEFAULT_KERNEL_SIZE = 3

Task = dict[str, Any]
Names = tuple[str, ...]


@dataclass(frozen=True)
class Head:
    """A valid convolution after the architecture, and what follows it in prediction.

    activation: name of a `torch.nn` class, or None.
    """

    task: str
    kernel_size: int
    channels: int
    activation: str | None


def parse_task(task: Any, dims: int, origin: Path) -> tuple[Head, Names]:
    """Head and channel names of a task configuration (`__type__` says which), `dims`-D.

    Raises CheckpointError for an unknown task, and for a missing or wrong key.
    """
    if not isinstance(task, dict):
        raise CheckpointError(f"{origin}: the task must be a mapping, not {task!r}.")
    kind = str(task.get("__type__"))
    if kind == "PretrainedTaskConfig":
        # It differs from the task in it by the weights that training starts from.
        return parse_task(task.get("sub_task_config"), dims, origin)
    make = _TASKS.get(kind)
    if make is None:
        raise CheckpointError(
            f"{origin}: task {kind} is not supported, only {', '.join(sorted(_TASKS))}. "
            "Its key __type__ says which it is."
        )
    try:
        head, names = make(task)
    except KeyError as error:
        raise CheckpointError(f"{origin}: the task ({kind}) lacks {error.args[0]}.") from None
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{origin}: the task ({kind}) has a wrong value: {error}.") from None
    if head.task == "affinities" and any(len(offset) != dims for offset in task["neighborhood"]):
        raise CheckpointError(
            f"{origin}: neighborhood {task['neighborhood']} does not suit a {dims}-D network."
        )
    return head, names


def _affinities(task: Task) -> tuple[Head, Names]:
    names = tuple("aff_" + "_".join(map(str, offset)) for offset in _listed(task, "neighborhood"))
    return Head("affinities", 1, len(names), "Sigmoid"), names


def _one_hot(task: Task) -> tuple[Head, Names]:
    names = tuple(map(str, _listed(task, "classes")))
    return Head("one_hot", _kernel_size(task), len(names), None), names


def _distance(task: Task) -> tuple[Head, Names]:
    names = tuple(map(str, _listed(task, "channels")))
    return Head("distance", 1, len(names), None), names


def _inner_distance(task: Task) -> tuple[Head, Names]:
    names = tuple(map(str, _listed(task, "channels")))
    return Head("inner_distance", 1, len(names), None), names


def _hot_distance(task: Task) -> tuple[Head, Names]:
    labels = tuple(map(str, _listed(task, "channels")))
    # First one mask per label, then one distance per label.
    names = labels + tuple(f"{label}_distance" for label in labels)
    return Head("hot_distance", _kernel_size(task), len(names), None), names


def _listed(task: Task, key: str) -> list[Any]:
    items = task[key]
    if not isinstance(items, (list, tuple)) or not items:
        raise ValueError(f"{key} is {items!r} and should be a list of at least one item")
    return list(items)


def _kernel_size(task: Task) -> int:
    size = task.get("kernel_size")
    if size is None:
        return DEFAULT_KERNEL_SIZE
    if not isinstance(size, int) or size < 1:
        raise ValueError(f"kernel_size is {size!r}")
    return size


_TASKS: dict[str, Callable[[Task], tuple[Head, Names]]] = {
    "AffinitiesTaskConfig": _affinities,
    "DistanceTaskConfig": _distance,
    "HotDistanceTaskConfig": _hot_distance,
    "InnerDistanceTaskConfig": _inner_distance,
    "OneHotTaskConfig": _one_hot,
}
