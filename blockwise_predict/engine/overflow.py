"""Overflow checks: whether the fused stream can be trusted with a tile's values.

The fused stages add in another order than torch's forward pass, sum taps of a kernel in advance,
and multiply by filler zeros. For finite values this changes only the rounding. NaN and infinity
would end up in other voxels, or disappear (oneDNN's fused ReLU turns NaN into 0). So values are
checked where there are few of them. If one is not finite, or so large that it could overflow before
the next check, the tile is computed by the unfused stream instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf, isfinite, nan
from typing import cast

import torch
from torch import nn

from blockwise_predict.architectures import CNNectomeUNetModule, Conv4d

# Margin for rounding, for sums of two maps, and for activations that add a little to a value.
HEADROOM = 2.0**-20


class RangeMonitor:
    """Records whether all observed values lie within `-limit .. limit`.

    The result stays on the device, without a synchronisation, until `exceeded` is read.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._within: torch.Tensor | None = None

    @property
    def exceeded(self) -> bool:
        """Whether a value since the last `reset` was NaN, infinite or beyond the limit."""
        return self._within is not None and not bool(self._within)

    def reset(self) -> None:
        """Forget all observations."""
        self._within = None

    def observe(self, planes: torch.Tensor | None) -> None:
        """Check the values of a tensor."""
        if planes is None or planes.is_meta or planes.numel() == 0:
            return
        low, high = torch.aminmax(planes)
        # Both are NaN if any value is, and comparisons with NaN are False.
        within = (low >= -self._limit) & (high <= self._limit)
        self._within = within if self._within is None else self._within & within


def max_safe_magnitude(
    unet: CNNectomeUNetModule,
    super_resolution: Sequence[nn.Module],
    head: nn.Module | None,
    dtype: torch.dtype,
) -> float:
    """Largest magnitude at a check from which nothing can overflow before the next check.

    Checks are at the input of each level, of each super-resolution step and of the head. The bound
    holds whatever the order of additions. It is NaN, which no value is within, if weights are not
    finite or too large. In float16 such a bound would be too small to be useful: there it is the
    dtype's largest finite value, and sums that may overflow are checked where they are computed.
    """
    largest = torch.finfo(dtype).max
    steps = zip(super_resolution[::2], super_resolution[1::2], strict=True)
    parts: list[list[nn.Module]] = [list(step) for step in steps]
    for level in range(unet.num_levels):
        up_path = [m for up in (unet.r_up, unet.r_conv) for m in _of_level(up, level)]
        parts.append([unet.l_conv[level], *up_path])
    head_growth = 1.0 if head is None else _growth([head])
    growth = max(map(_growth, parts)) * head_growth
    if dtype == torch.float16:
        return largest if isfinite(growth) else nan
    safe = largest * HEADROOM / growth
    return safe if safe >= 1 else nan


def _of_level(heads: nn.Module, level: int) -> list[nn.Module]:
    """A level's module for each head; empty at the deepest level."""
    per_head = [cast(nn.ModuleList, head) for head in cast(nn.ModuleList, heads)]
    return [modules[level] for modules in per_head if level < len(modules)]


def _growth(modules: Iterable[nn.Module]) -> float:
    """Factor by which consecutive layers can enlarge a magnitude of 1 or more."""
    factor = 1.0
    for module in modules:
        for layer in module.modules():
            factor *= _layer_growth(layer)
    return factor


def _layer_growth(layer: nn.Module) -> float:
    if isinstance(layer, (nn.BatchNorm2d, nn.BatchNorm3d)):
        gain, shift = batch_norm_affine(layer)
        largest = float((gain.abs() + shift.abs()).max())
    elif isinstance(layer, (nn.Conv2d, nn.Conv3d, Conv4d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
        out_axis = 1 if isinstance(layer, (nn.ConvTranspose2d, nn.ConvTranspose3d)) else 0
        summed = [axis for axis in range(layer.weight.dim()) if axis != out_axis]
        sums = layer.weight.detach().float().abs().sum(summed)
        if layer.bias is not None:
            sums = sums + layer.bias.detach().abs()
        largest = float(sums.max())
    else:
        return 1.0
    return max(1.0, largest) if isfinite(largest) else inf


def batch_norm_affine(norm: nn.BatchNorm2d | nn.BatchNorm3d) -> tuple[torch.Tensor, torch.Tensor]:
    """Gain and shift of a batch norm in eval mode, float32."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    gain = (norm.running_var + norm.eps).rsqrt() * norm.weight
    return gain.detach().float(), (norm.bias - norm.running_mean * gain).detach().float()
