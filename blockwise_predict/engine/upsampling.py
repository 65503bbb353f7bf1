"""Upsampling: fused with the convolution that follows it, or carried out explicitly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import torch
from torch.nn import functional as F

from blockwise_predict.engine.convolution import ConvWeights
from blockwise_predict.engine.frames import make_convolution
from blockwise_predict.engine.stages import Planes, StreamedConvolution

Tensor = torch.Tensor


def interleave_phases(phases: Tensor, factor: Sequence[int]) -> Tensor:
    """`[D, *plane, prod(f) * C]`, phases before channels, to `[D * f, *(plane * f), C]`.

    This is a pixel shuffle (depth to space) in channels-last memory.
    """
    *shape, channels = phases.shape
    dims = len(factor)
    split = phases.view(*shape, *factor, channels // prod(factor))
    order = [position for axis in range(dims) for position in (axis, dims + axis)]
    full = [size * f for size, f in zip(shape, factor, strict=True)]
    return split.permute(*order, 2 * dims).reshape(*full, -1)


class FusedUpsampling:
    """Nearest-neighbour upsampling and the following convolution, fused at low resolution.

    A kernel of k over voxels repeated f times sees at most m = (f + k - 2) // f + 1 different ones.
    So each of the f phases of the output is a convolution with m taps, each the sum of the taps
    that fall on the same voxel. All phases are computed as channels and interleaved: m / k of the
    arithmetic along each axis, and the upsampled map is never stored. (This is the sub-pixel
    convolution of Shi et al. 2016, arXiv:1609.05158, in reverse.)
    """

    def __init__(
        self, weights: ConvWeights, factor: Sequence[int], dtype: torch.dtype, device: torch.device
    ) -> None:
        self._factor = tuple(factor)
        self._kernel_size = weights.kernel_size
        kernel = weights.kernel
        for axis, (f, k) in enumerate(zip(self._factor, self._kernel_size, strict=True)):
            kernel = _sum_taps_by_phase(kernel, axis, f, k)
        copies = prod(self._factor)
        # [f..., C_out, C_in, m...] -> [phases and C_out, C_in, m...]
        kernel = kernel.reshape(-1, *kernel.shape[len(self._factor) + 1 :])
        phases = ConvWeights(kernel, weights.bias.repeat(copies), weights.activation)
        self._convolution = StreamedConvolution(make_convolution(phases, dtype, device))
        # Phases that need fewer than m taps have one more output voxel at the end: pad for it.
        self._padding = [
            m - -(-k // f)
            for m, k, f in zip(phases.kernel_size, self._kernel_size, self._factor, strict=True)
        ]
        self._no_planes: Planes = None

    def reset(self) -> None:
        """Clear the state between tiles."""
        self._convolution.reset()
        self._no_planes = None

    def push(self, planes: Planes, last: bool) -> Planes:
        """Upsample and convolve the next planes; see `Upsampling`."""
        along, *in_plane = self._padding
        along = along if last else 0
        if planes is None:
            if not along:
                return None
            planes = self._no_planes
        if planes is None:
            return None
        self._no_planes = planes[:0]
        pad = [0, 0]
        for size in (*reversed(in_plane), along):
            pad += [0, size]
        low = self._convolution.push(F.pad(planes, pad) if any(pad) else planes)
        if low is None:
            return None
        full = interleave_phases(low, self._factor)
        window = (
            slice(0, size * f - k + 1)
            for size, f, k in zip(
                planes.shape[1:-1], self._factor[1:], self._kernel_size[1:], strict=True
            )
        )
        return full[(slice(None), *window)]


def _sum_taps_by_phase(kernel: Tensor, axis: int, factor: int, size: int) -> Tensor:
    """Replace the `size` taps along one axis by m sums for each of the `factor` phases.

    `[*f, C_out, C_in, *k]` with `axis` phase axes in front becomes `[*f, f, C_out, C_in, *k]`: the
    new phase axis follows the earlier ones.
    """
    taps = (factor + size - 2) // factor + 1
    tap_axis = axis + 2 + axis  # after earlier phases, C_out, C_in and earlier axes' taps
    kernel = kernel.movedim(tap_axis, -1)
    phases = []
    for phase in range(factor):
        sums = kernel.new_zeros(*kernel.shape[:-1], taps)
        for tap in range(size):
            sums[..., (phase + tap) // factor] += kernel[..., tap]
        phases.append(sums.movedim(-1, tap_axis))
    return torch.stack(phases, dim=axis)


class ExplicitUpsampling:
    """Upsampling that stores the full-resolution map, then an optional convolution.

    `to_phases` computes the phases of every voxel, phases before channels.
    """

    def __init__(
        self,
        to_phases: Callable[[Tensor], Tensor],
        factor: Sequence[int],
        convolution: StreamedConvolution | None = None,
    ) -> None:
        self._to_phases = to_phases
        self._factor = tuple(factor)
        self._convolution = convolution

    def reset(self) -> None:
        """Clear the state between tiles."""
        if self._convolution is not None:
            self._convolution.reset()

    def push(self, planes: Planes, last: bool) -> Planes:  # noqa: ARG002  the protocol's signature
        """Upsample the next planes; see `Upsampling`."""
        if planes is None:
            return None
        full = interleave_phases(self._to_phases(planes), self._factor)
        return full if self._convolution is None else self._convolution.push(full)
