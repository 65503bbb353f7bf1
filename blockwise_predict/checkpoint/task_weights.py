"""The heads of several tasks in a state dictionary, joined to the prediction head of the network.

A network of several tasks calls its heads by the tasks' names, as `aff_head` and `lsd_head` of the
LSD repository's MTLSD. Each is a convolution, alone or the first layer of funlib's `ConvPass`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch.nn.functional import pad

from blockwise_predict.checkpoint.tasks import TaskHead
from blockwise_predict.errors import CheckpointError, shown

_WRAPPERS = ("module.", "_orig_mod.")
# How the convolution of a head is called within it.
_CONVOLUTIONS = ("", "conv_pass.0.", "0.")
_JOINT = "prediction_head"
_SHOWN_LAYERS = 8


def join_heads(
    state: Mapping[str, torch.Tensor], heads: Sequence[TaskHead], separate: bool, origin: Path
) -> dict[str, torch.Tensor]:
    """The state dictionary with the heads of all tasks as one convolution, `prediction_head`.

    With `separate` they stay one each, `prediction_head.0` and so on: those of a U-Net with an
    expanding path for each task. A file that has a joint `prediction_head` already is left as it
    is. Raises CheckpointError for a head that is not there, or is more than a convolution.
    """
    state = {_unwrapped(key): tensor for key, tensor in state.items()}
    layers = [_layer(state, head, origin) for head in heads]
    if not any(layers) and any(key.startswith(f"{_JOINT}.") for key in state):
        return state
    if None in layers:
        raise CheckpointError(_missing(state, heads[layers.index(None)], origin))
    size = max(head.kernel_size for head in heads)
    weights, biases = [], []
    for head, layer in zip(heads, filter(None, layers), strict=True):
        weight, bias = _take_convolution(state, layer, origin)
        if any(length != head.kernel_size for length in weight.shape[2:]):
            raise CheckpointError(
                f"{origin}: the head {shown(layer)[1:-1]} has a kernel of "
                f"{tuple(weight.shape[2:])}, but kernel_size of task {head.output.name} is "
                f"{head.kernel_size}."
            )
        weights.append(_centred(weight, size))
        biases.append(bias)
    if separate:
        for number, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            state |= {f"{_JOINT}.{number}.weight": weight, f"{_JOINT}.{number}.bias": bias}
        return state
    if len({weight.shape[1] for weight in weights}) > 1:
        inputs = ", ".join(str(weight.shape[1]) for weight in weights)
        raise CheckpointError(
            f"{origin}: the heads take {inputs} feature maps, so they do not follow the same U-Net "
            "output. num_heads of the architecture is its number of expanding paths."
        )
    return state | {f"{_JOINT}.weight": torch.cat(weights), f"{_JOINT}.bias": torch.cat(biases)}


def _unwrapped(key: str) -> str:
    for prefix in _WRAPPERS:
        key = key.removeprefix(prefix)
    return key


def _candidates(head: TaskHead) -> tuple[str, ...]:
    """Names that the layer of a head may have."""
    if head.layer is not None:
        return (head.layer,)
    name = head.output.name
    return (
        *(name, f"{name}_head", f"{name.removesuffix('s')}_head"),
        *(f"heads.{name}", f"prediction_heads.{name}"),
    )


def _layer(state: Mapping[str, torch.Tensor], head: TaskHead, origin: Path) -> str | None:
    """The name of a head's layer; None if there is none."""
    found = [
        name
        for name in dict.fromkeys(_candidates(head))
        if any(key.startswith(f"{name}.") for key in state)
    ]
    if len(found) > 1:
        raise CheckpointError(
            f"{origin}: the head of task {head.output.name} may be {' or '.join(found)}. Say which "
            "with `head:` in the task."
        )
    return found[0] if found else None


def _missing(state: Mapping[str, torch.Tensor], head: TaskHead, origin: Path) -> str:
    layers = [*dict.fromkeys(key.split(".")[0] for key in state)]
    more = ", ..." if len(layers) > _SHOWN_LAYERS else ""
    listed = ", ".join(shown(layer)[1:-1] for layer in layers[:_SHOWN_LAYERS]) + more
    return (
        f"{origin}: the weights have no head of task {head.output.name}: no layer "
        f"{' or '.join(map(str, _candidates(head)))}, only {listed}. Name it with `head:` in the "
        "task."
    )


def _take_convolution(
    state: dict[str, torch.Tensor], layer: str, origin: Path
) -> tuple[torch.Tensor, torch.Tensor]:
    """Remove a head's convolution from the state dictionary; returns its kernel and its bias."""
    own = {key: state.pop(key) for key in [*state] if key.startswith(f"{layer}.")}
    for inner in _CONVOLUTIONS:
        weight = own.pop(f"{layer}.{inner}weight", None)
        if weight is not None:
            bias = own.pop(f"{layer}.{inner}bias", None)
            break
    if own or weight is None or weight.dim() < 3:
        names = ", ".join(shown(key)[1:-1] for key in [*own][:_SHOWN_LAYERS]) or layer
        raise CheckpointError(
            f"{origin}: the head {shown(layer)[1:-1]} is not one convolution: {names}. Only heads "
            "of one convolution are supported."
        )
    return weight, weight.new_zeros(len(weight)) if bias is None else bias


def _centred(weight: torch.Tensor, size: int) -> torch.Tensor:
    """A kernel in the middle of one of `size`, with zeros around it."""
    margins = [(size - length) // 2 for length in weight.shape[2:]]
    if not any(margins):
        return weight
    return pad(weight, [margin for each in reversed(margins) for margin in (each, each)])
