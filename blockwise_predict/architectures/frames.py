"""Layers over volumes with a time axis, which is counted in frames.

A tensor with time is `[B, C, T, z, y, x]`. Once a convolution has left a single frame, the time
axis is dropped, and tensors are `[B, C, z, y, x]` from there on. Kernels of four components act in
time; every other layer acts on each frame by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import prod, sqrt

import torch
from torch import nn
from torch.nn import functional as F

# Axes of `[B, C, T, z, y, x]`.
WITH_TIME = 6


class Conv4d(nn.Module):
    """A valid convolution over (t, z, y, x): the sum over the taps in time of 3-D convolutions.

    Parameters: `weight`, `[out_channels, in_channels, t, z, y, x]`, and `bias`, `[out_channels]`.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Sequence[int]) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = tuple(kernel_size)
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, *self.kernel_size))
        self.bias = nn.Parameter(torch.empty(out_channels))
        # As torch's convolutions: uniform within 1 / sqrt(fan_in).
        bound = 1 / sqrt(in_channels * prod(self.kernel_size))
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[B, in, T, *s]` to `[B, out, T - t + 1, *(s - k + 1)]`.

        Also takes a tensor without time, if the kernel has one tap in time. Raises RuntimeError if
        the tensor has fewer frames than the kernel.
        """
        taps = self.kernel_size[0]
        if x.dim() < WITH_TIME:
            return self.forward(x[:, :, None])[:, :, 0]
        length = x.shape[2] - taps + 1
        if length < 1:
            raise RuntimeError(
                f"Can not convolve {x.shape[2]} frames with kernel {self.kernel_size}: it acts on "
                f"{taps}. Where time has been dropped, kernels need three components (z, y, x)"
            )
        return sum_in_order(self._tap(tap, x[:, :, tap : tap + length]) for tap in range(taps))

    def _tap(self, tap: int, x: torch.Tensor) -> torch.Tensor:
        """The part of one tap in time; the first includes the bias."""
        bias = None if tap else self.bias
        return on_each_frame(lambda frames: F.conv3d(frames, self.weight[:, :, tap], bias), x)

    def extra_repr(self) -> str:
        """As torch's convolutions are shown."""
        return f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"


def sum_in_order(parts: Iterable[torch.Tensor]) -> torch.Tensor:
    """The sum of tensors, from the first to the last."""
    first, *rest = parts
    for part in rest:
        first = first + part
    return first


def on_each_frame(layer: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Apply a layer for tensors without time to `x`, or to each of its frames."""
    if x.dim() < WITH_TIME:
        return layer(x)
    frames = x.movedim(2, 1)
    result = layer(frames.flatten(0, 1))
    return result.unflatten(0, frames.shape[:2]).movedim(1, 2)


def convolve_in_turn(layers: Iterable[nn.Module], x: torch.Tensor) -> torch.Tensor:
    """Apply consecutive layers to a tensor with time, which is dropped when one frame is left."""
    for layer in layers:
        x = layer(x) if isinstance(layer, Conv4d) else on_each_frame(layer, x)
        if x.dim() == WITH_TIME and x.shape[2] == 1:
            x = x[:, :, 0]
    return x


def centre_frames(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The centre frames of `x`, as many as `like` has; without time if `like` has none.

    An odd frame is cut at the end.
    """
    if x.dim() < WITH_TIME:
        return x
    with_time = like.dim() == WITH_TIME
    length = like.shape[2] if with_time else 1
    begin = (x.shape[2] - length) // 2
    frames = x[:, :, begin : begin + length]
    return frames if with_time else frames[:, :, 0]
