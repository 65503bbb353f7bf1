"""Whether all values on the way through a network are finite, and stay so whatever is rearranged.

The stages add in another order than torch's plain forward pass does, add up taps of a kernel
beforehand, and multiply zeros that it does not have. For finite values that is rounding. NaN and
infinity would come out elsewhere, or, from oneDNN's fused ReLU (which makes 0 of NaN), not at all.
So values are looked at where that is cheap, and where one is not finite, or so large that it could
grow beyond the dtype before the next look, the plain stream is taken instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf, isfinite, nan
from typing import cast

import torch
from torch import nn

from blockwise_predict.architectures import CNNectomeUNetModule

# What rounding, sums of two maps, and activations that add a little to a value may need.
HEADROOM = 2.0**-20


class RangeWatch:
    """Looks at values on their way, and tells whether all were within `-limit .. limit`.

    What was seen stays on the device until `exceeded` asks for it.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._within: torch.Tensor | None = None

    @property
    def exceeded(self) -> bool:
        """Whether something was NaN, infinite or beyond the limit since the last `reset`."""
        return self._within is not None and not bool(self._within)

    def reset(self) -> None:
        """Forget what was seen."""
        self._within = None

    def look(self, planes: torch.Tensor | None) -> None:
        """Look at some values."""
        if planes is None or planes.is_meta or planes.numel() == 0:
            return
        low, high = torch.aminmax(planes)
        # False for NaN, which both of them are if one value is.
        within = (low >= -self._limit) & (high <= self._limit)
        self._within = within if self._within is None else self._within & within


def largest_safe(
    unet: CNNectomeUNetModule,
    tails: Sequence[nn.Module],
    head: nn.Module | None,
    dtype: torch.dtype,
) -> float:
    """The largest magnitude from which nothing in a level, a tail or the head can overflow.

    That is: values within it where a level, or a step of super-resolution, gets them stay finite
    until the next one gets what they have become, in whatever order sums are made. NaN, which
    nothing is within, if weights are not finite or too large for that. float16 has no such
    magnitude that would be of use: there it is the largest finite value, and what may overflow is
    to be looked at where it is computed.
    """
    largest = torch.finfo(dtype).max
    steps = zip(tails[::2], tails[1::2], strict=True)
    parts: list[list[nn.Module]] = [list(step) for step in steps]
    for level in range(unet.num_levels):
        right = [m for up in (unet.r_up, unet.r_conv) for m in _of_level(up, level)]
        parts.append([unet.l_conv[level], *right])
    after = 1.0 if head is None else _growth([head])
    growth = max(map(_growth, parts)) * after
    if dtype == torch.float16:
        return largest if isfinite(growth) else nan
    safe = largest * HEADROOM / growth
    return safe if safe >= 1 else nan


def _of_level(heads: nn.Module, level: int) -> list[nn.Module]:
    """A level's module of each head; none at the deepest level."""
    every = [cast(nn.ModuleList, head) for head in cast(nn.ModuleList, heads)]
    return [modules[level] for modules in every if level < len(modules)]


def _growth(modules: Iterable[nn.Module]) -> float:
    """By how much layers in a row can enlarge the largest magnitude, if that is 1 or more."""
    factor = 1.0
    for module in modules:
        for layer in module.modules():
            factor *= _growth_of_layer(layer)
    return factor


def _growth_of_layer(layer: nn.Module) -> float:
    if isinstance(layer, (nn.BatchNorm2d, nn.BatchNorm3d)):
        gain, shift = affine(layer)
        largest = float((gain.abs() + shift.abs()).max())
    elif isinstance(layer, (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
        channels = 1 if isinstance(layer, (nn.ConvTranspose2d, nn.ConvTranspose3d)) else 0
        others = [axis for axis in range(layer.weight.dim()) if axis != channels]
        sums = layer.weight.detach().float().abs().sum(others)
        if layer.bias is not None:
            sums = sums + layer.bias.detach().abs()
        largest = float(sums.max())
    else:
        return 1.0
    return max(1.0, largest) if isfinite(largest) else inf


def affine(norm: nn.BatchNorm2d | nn.BatchNorm3d) -> tuple[torch.Tensor, torch.Tensor]:
    """Gain and shift, float32, of a batch norm in eval mode."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    gain = (norm.running_var + norm.eps).rsqrt() * norm.weight
    return gain.detach().float(), (norm.bias - norm.running_mean * gain).detach().float()
