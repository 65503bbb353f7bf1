"""What the names and shapes of a U-Net's tensors say about its configuration."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from blockwise_predict.architectures.channels import contraction_of
from blockwise_predict.checkpoint.keys import normalise_key

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]

_UNET = "architecture.unet."
_HEAD = "prediction_head.weight"
# By the name of an upsampling's weights: constant_upsample, upsample_convolution and
# activation_on_upsample; None is what the name does not say. A single layer is not in a Sequential.
_UPSAMPLINGS = {
    "up.weight": (False, True, False),
    "up.0.weight": (False, True, True),
    "up.1.weight": (True, True, None),
    None: (True, False, False),
}


class _OtherNetworkError(Exception):
    """The tensors are not those of a CNNectomeUNet."""


@dataclass(frozen=True)
class TensorSettings:
    """A configuration, as far as tensors determine it.

    settings: keys of CNNectomeUNetConfig. Those that DaCapo 0.3.5 does not have are left out where
        they have their defaults.
    undetermined: keys that a configuration needs besides.
    dims: number of spatial axes.
    head: shape of the prediction head's kernel `[C_out, C_in, *k]`, None if there is no head.
    """

    settings: dict[str, Any]
    undetermined: tuple[str, ...]
    dims: int
    head: Shape | None


def settings_of(shapes: Shapes) -> TensorSettings | None:
    """What tensors, given by name and shape, determine; None if they are no CNNectomeUNet's.

    Names are of any file family, see `normalise_key`. Padding, the activation, factors of
    nearest-neighbour upsampling, and an activation after its 1x1 convolution leave no trace.
    """
    named = {normalise_key(name): tuple(shape) for name, shape in shapes.items()}
    try:
        return _read({name: shape for name, shape in named.items() if 0 not in shape})
    except _OtherNetworkError:
        return None


def _read(named: Shapes) -> TensorSettings:
    has_super_resolution = any(name.startswith(f"{_UNET}0.l_conv.") for name in named)
    unet = f"{_UNET}0." if has_super_resolution else _UNET
    down = list(_levels(named, f"{unet}l_conv."))
    up = list(_levels(named, f"{unet}r_conv.0."))
    _require(len(down) == len(up) + 1 >= 2)
    _require(not any(name.startswith(f"{unet}r_conv.1.") for name in named))
    fmaps = [_width(level) for level in down]
    increase = fmaps[1] // fmaps[0]
    _require(fmaps == [fmaps[0] * increase**level for level in range(len(fmaps))])
    _require([_width(level) for level in up[1:]] == fmaps[1:-1])
    settings: dict[str, Any] = {
        "fmaps_in": down[0][0][1],
        "fmaps_out": _width(up[0]),
        "num_fmaps": fmaps[0],
        "fmap_inc_factor": increase,
        "kernel_size_down": [_kernels(level) for level in down],
        "kernel_size_up": [_kernels(level) for level in up],
        "use_attention": any(name.startswith(f"{unet}attention.") for name in named),
        "batch_norm": any(name.endswith("running_mean") for name in named),
    }
    settings |= _upsampling(named, f"{unet}r_up.0.", [level[0][1] for level in up], fmaps)
    undetermined = ["padding", "activation"]
    undetermined += [
        key for key in ("downsample_factors", "activation_on_upsample") if key not in settings
    ]
    if has_super_resolution:
        kernels = _super_resolution(named, settings["fmaps_out"])
        undetermined.append("upsample_factors")
        if kernels != settings["kernel_size_up"][-1]:
            settings["super_resolution_kernels"] = kernels
    for key, default in (("upsample_convolution", True), ("activation_on_upsample", True)):
        if settings.get(key) is default:
            del settings[key]
    head = named.get(_HEAD)
    _require(head is None or (len(head) > 2 and len(set(head[2:])) == 1))
    return TensorSettings(settings, tuple(undetermined), len(down[0][0]) - 2, head)


def _require(condition: bool) -> None:
    if not condition:
        raise _OtherNetworkError


def _convolutions(named: Shapes, prefix: str) -> list[Shape]:
    """The kernels `[C_out, C_in, *k]` of a ConvPass, in its order."""
    pattern = re.compile(re.escape(prefix) + r"conv_pass\.(\d+)\.weight")
    found = {
        int(match[1]): shape
        for name, shape in named.items()
        # The weights of a batch norm have one axis.
        if (match := pattern.fullmatch(name)) and len(shape) > 1
    }
    kernels = [found[number] for number in sorted(found)]
    _require(all(len(kernel) in (4, 5) for kernel in kernels))
    return kernels


def _levels(named: Shapes, prefix: str) -> Iterator[list[Shape]]:
    level = 0
    while kernels := _convolutions(named, f"{prefix}{level}."):
        yield kernels
        level += 1


def _width(level: Sequence[Shape]) -> int:
    """Feature maps of a level, whose convolutions all have the same number."""
    _require(len({kernel[0] for kernel in level}) == 1)
    return level[0][0]


def _kernels(level: Sequence[Shape]) -> list[Shape]:
    return [kernel[2:] for kernel in level]


def _upsampling(
    named: Shapes, prefix: str, merged: Sequence[int], fmaps: Sequence[int]
) -> dict[str, Any]:
    """The settings of the upsampling; `merged` are the channels that it and the skip make up."""
    kinds = {
        next((kind for kind in _UPSAMPLINGS if f"{prefix}{level}.{kind}" in named), None)
        for level in range(len(merged))
    }
    _require(len(kinds) == 1)
    (kind,) = kinds
    constant, convolution, activation = _UPSAMPLINGS[kind]
    settings: dict[str, Any] = {
        "constant_upsample": constant,
        "upsample_convolution": convolution,
    }
    if activation is not None:
        settings["activation_on_upsample"] = activation
    if not constant:
        weights = [named[f"{prefix}{level}.{kind}"] for level in range(len(merged))]
        settings["downsample_factors"] = [shape[2:] for shape in weights]
    upsampled = [total - fmaps[level] for level, total in enumerate(merged)]
    default = contraction_of(None, len(merged))
    if upsampled != [fmaps[i if contracted else i + 1] for i, contracted in enumerate(default)]:
        contraction = [channels == fmaps[level] for level, channels in enumerate(upsampled)]
        _require(upsampled == [fmaps[i if c else i + 1] for i, c in enumerate(contraction)])
        settings["upsample_channel_contraction"] = contraction
    elif not convolution and any(default):
        # With as many feature maps in every level, contracting them or not is the same.
        settings["upsample_channel_contraction"] = [False] * len(merged)
    return settings


def _super_resolution(named: Shapes, fmaps_out: int) -> list[Shape]:
    """Kernel sizes of the super-resolution steps' convolutions, which are the same in all."""
    passes: list[list[Shape]] = []
    while kernels := _convolutions(named, f"{_UNET}{2 * len(passes) + 2}."):
        _require(f"{_UNET}{2 * len(passes) + 1}.up.1.weight" in named)
        _require(_width(kernels) == fmaps_out)
        passes.append(_kernels(kernels))
    _require(bool(passes) and all(each == passes[0] for each in passes))
    return passes[0]
