"""Convolutions in time as well as in space, over planes `[D, *plane, T, C]`.

Consecutive frames of a voxel are consecutive in memory, so the t frames under a kernel are one
voxel of t * C channels: a convolution in time is one 3-D convolution for each frame of its output,
with the same kernel for all. It has the arithmetic of the direct sum, and no other terms. (A single
convolution from all frames to all frames would have T / t times as much. The rest would be products
with zero, through which a NaN would spread to all frames.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from blockwise_predict.engine.convolution import Convolution, ConvWeights
from blockwise_predict.engine.overflow import RangeMonitor

Tensor = torch.Tensor


class FrameConvolution:
    """A valid convolution in time and space with bias and activation; see `Convolution`."""

    def __init__(
        self,
        weights: ConvWeights,
        dtype: torch.dtype,
        device: torch.device,
        *,
        out_dtype: torch.dtype | None = None,
        monitor: RangeMonitor | None = None,
    ) -> None:
        self.kernel_size = weights.kernel_size
        # [C_out, C_in, *k, t] -> [C_out, t * C_in, *k]
        kernel = weights.kernel.movedim(-1, 1).flatten(1, 2)
        self._convolution = Convolution(
            replace(weights, kernel=kernel), dtype, device, out_dtype=out_dtype, monitor=monitor
        )

    def __call__(self, planes: Tensor) -> Tensor:
        """`[D, *plane, T, C_in]` to `[D - k + 1, *(plane - k + 1), T - t + 1, C_out]`."""
        return _stacked([self._convolution(window) for window in self._windows(planes)])

    def add_to(self, total: Tensor, planes: Tensor) -> Tensor:
        """`activation(total + convolution + bias)`; may overwrite `total`."""
        return _stacked(
            [
                self._convolution.add_to(total[..., frame, :].contiguous(), window)
                for frame, window in enumerate(self._windows(planes))
            ]
        )

    def _windows(self, planes: Tensor) -> Iterator[Tensor]:
        """The frames under the kernel, as channels, for each frame of the output."""
        taps = self.kernel_size[-1]
        for begin in range(planes.shape[-2] - taps + 1):
            yield planes[..., begin : begin + taps, :].flatten(-2)


def _stacked(frames: Sequence[Tensor]) -> Tensor:
    """Frames `[D, *plane, C]` as `[D, *plane, T, C]`; a single one is not copied."""
    planes = [frame.unsqueeze(-2) for frame in frames]
    return torch.cat(planes, dim=-2) if len(planes) > 1 else planes[0]


def make_convolution(
    weights: ConvWeights,
    dtype: torch.dtype,
    device: torch.device,
    *,
    out_dtype: torch.dtype | None = None,
    monitor: RangeMonitor | None = None,
) -> Convolution | FrameConvolution:
    """The convolution in space, or in time and space, that `weights` are for."""
    kind = FrameConvolution if len(weights.kernel_size) == 4 else Convolution
    return kind(weights, dtype, device, out_dtype=out_dtype, monitor=monitor)
