"""The U-Net that a list of operations could be: its settings, from layers' names and shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from blockwise_predict.checkpoint.recognition.program import Operation, UnreadableProgramError

Shapes = Mapping[str, tuple[int, ...]]
_DOWN = re.compile(r"unet\.(?:0\.)?l_conv\.(\d+)\.conv_pass\.\d+")
_RIGHT = re.compile(r"unet\.(?:0\.)?r_conv\.(\d+)\.(\d+)\.conv_pass\.\d+")
_UP = re.compile(r"unet\.(?:0\.)?r_up\.0\.(\d+)\.up(\.\d+)?")
_SUPER = re.compile(r"unet\.([1-9]\d*)\.conv_pass\.\d+")
HEAD = "prediction_head"


@dataclass(frozen=True)
class Family:
    """A U-Net: the keys of CNNectomeUNetConfig, and what follows it.

    head: kernel and channels of the prediction head, if there is one.
    activation: the operation after it, if there is one.
    """

    settings: dict[str, Any]
    head: tuple[tuple[int, ...], int] | None
    activation: str | None


def infer_family(
    operations: Sequence[Operation],
    weights: Mapping[str, torch.Tensor],
    input_shape: tuple[int, ...] | None,
) -> Family:
    """The family that the names and shapes of layers speak for, whether or not all else agrees.

    operations: with normalised names of layers, without `architecture.`. weights: likewise.
    Raises UnreadableProgramError if there is no such family.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    down = _kernels(operations, shapes, _DOWN, lambda found: int(found[1]))
    up = _kernels(operations, shapes, _RIGHT, lambda found: int(found[2]))
    if len(down) < 2 or len(up) != len(down) - 1:
        raise UnreadableProgramError(
            "its parameters do not have a U-Net's names (l_conv.0.conv_pass.0.weight, "
            "r_conv.0.0.conv_pass.0.weight, ...)"
        )
    first, second = (_outputs(operations, shapes, level) for level in (0, 1))
    dims = len(down[0][0])
    kinds = {operation.kind for operation in operations}
    steps = len(down) - 1
    upsampling = [o for o in operations if o.kind in ("upsample", "conv_transpose")]
    if len(upsampling) < steps:
        raise UnreadableProgramError("it does not upsample as often as it has levels")
    supers = _kernels(operations, shapes, _SUPER, lambda found: int(found[1]))
    settings: dict[str, Any] = {
        "input_shape": list(input_shape or [64] * dims),
        "fmaps_in": shapes[f"{_first(operations).layer}.weight"][1],
        "fmaps_out": _last_right(operations, shapes),
        "num_fmaps": first,
        "fmap_inc_factor": max(1, second // first),
        "downsample_factors": [_whole(o) for o in operations if o.kind == "max_pool"],
        "kernel_size_down": down,
        "kernel_size_up": up,
        "upsample_factors": [_whole(o) for o in upsampling[steps:]] or None,
        "constant_upsample": upsampling[0].kind == "upsample",
        "padding": str(_first(operations).numbers[0]),
        "batch_norm": "batch_norm" in kinds,
    }
    settings |= _other_traits(operations, shapes, settings, supers)
    head = shapes.get(f"{HEAD}.weight")
    last = operations[-1].kind
    return Family(
        settings,
        (head[2:], head[0]) if head is not None else None,
        last if last in ("sigmoid", "tanh") else None,
    )


def _other_traits(
    operations: Sequence[Operation],
    shapes: Shapes,
    settings: Mapping[str, Any],
    supers: list[list[tuple[int, ...]]],
) -> dict[str, Any]:
    """The settings in which networks differ from DaCapo's, as far as they do."""
    traits: dict[str, Any] = {}
    steps = len(settings["downsample_factors"])
    ups = [(found, o) for o in operations if (found := _UP.fullmatch(o.layer)) and o.kind != "relu"]
    if settings["constant_upsample"] and not ups:
        ups_only = [o for o in operations if o.kind == "upsample"][:steps]
        traits |= {"upsample_convolution": False, "upsample_channel_contraction": [False] * steps}
        return traits | _activated(operations, ups_only)
    traits |= _activated(operations, [o for _, o in ups])
    contracted = []
    for level in range(steps):
        layer = next((o for found, o in ups if int(found[1]) == level), None)
        if layer is None:
            return traits
        outputs = shapes[f"{layer.layer}.weight"][1 if layer.kind == "conv_transpose" else 0]
        contracted.append(outputs == settings["num_fmaps"] * settings["fmap_inc_factor"] ** level)
    if contracted != [False] + [True] * (steps - 1) and settings["fmap_inc_factor"] > 1:
        traits["upsample_channel_contraction"] = contracted
    if supers and supers[0] != settings["kernel_size_up"][-1]:
        traits["super_resolution_kernels"] = supers[0]
    return traits


def _activated(operations: Sequence[Operation], ups: Sequence[Operation]) -> dict[str, Any]:
    """Whether an activation follows the last layers of upsampling, if none does."""
    following = [operations[operations.index(one) + 1].kind for one in ups]
    return {} if "relu" in following else {"activation_on_upsample": False}


def _kernels(
    operations: Sequence[Operation], shapes: Shapes, names: re.Pattern[str], level_of: Any
) -> list[list[tuple[int, ...]]]:
    """The kernels of each level's convolutions, of layers with these names."""
    levels: dict[int, list[tuple[int, ...]]] = {}
    for operation in operations:
        if operation.kind == "conv" and (found := names.fullmatch(operation.layer)):
            kernel = shapes[f"{operation.layer}.weight"][2:]
            levels.setdefault(level_of(found), []).append(kernel)
    return [levels[level] for level in sorted(levels)]


def _outputs(operations: Sequence[Operation], shapes: Shapes, level: int) -> int:
    """Feature maps of a level of the contracting path."""
    for operation in operations:
        found = _DOWN.fullmatch(operation.layer)
        if operation.kind == "conv" and found and int(found[1]) == level:
            return shapes[f"{operation.layer}.weight"][0]
    raise UnreadableProgramError(f"level {level} has no convolutions")


def _last_right(operations: Sequence[Operation], shapes: Shapes) -> int:
    """Feature maps at the end of the expanding path."""
    layers = [o.layer for o in operations if o.kind == "conv" and _RIGHT.fullmatch(o.layer)]
    return shapes[f"{layers[-1]}.weight"][0]


def _first(operations: Sequence[Operation]) -> Operation:
    return next(operation for operation in operations if operation.kind == "conv")


def _whole(operation: Operation) -> list[int]:
    return [int(number) for number in operation.numbers]
