"""Upsampling and the convolution after it, without the upsampled map where it only repeats."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import torch
from torch.nn import functional as F

from blockwise_predict.engine.convolution import Convolution, Weights
from blockwise_predict.engine.stages import Convolve, Planes

Tensor = torch.Tensor


def interleaved(phases: Tensor, factor: Sequence[int]) -> Tensor:
    """`[D, *plane, prod(factor) * C]`, phases before channels, to `[D * f, *(plane * f), C]`."""
    *shape, channels = phases.shape
    dims = len(factor)
    split = phases.view(*shape, *factor, channels // prod(factor))
    order = [position for axis in range(dims) for position in (axis, dims + axis)]
    full = [size * f for size, f in zip(shape, factor, strict=True)]
    return split.permute(*order, 2 * dims).reshape(*full, -1)


class UpsampledConvolve:
    """A convolution of planes that are upsampled by repetition, computed without upsampling them.

    A kernel of k over voxels that are repeated f times sees only m = (f + k - 2) // f + 1 different
    ones. So each of the f phases of the output is a convolution of m taps, each the sum of those
    that fall on the same voxel. All phases are computed side by side and interleaved: m/k of the
    arithmetic along each axis, and the upsampled map is never there. (The sub-pixel convolution of
    Shi et al. 2016, arXiv:1609.05158, read backwards.)
    """

    def __init__(
        self, weights: Weights, factor: Sequence[int], dtype: torch.dtype, device: torch.device
    ) -> None:
        self._factor = tuple(factor)
        self._kernel = weights.size
        kernel = weights.kernel
        for axis, (f, k) in enumerate(zip(self._factor, weights.size, strict=True)):
            kernel = _summed_taps(kernel, axis, f, k)
        copies = prod(self._factor)
        # [f..., C_out, C_in, m...] -> [phases and C_out, C_in, m...]
        kernel = kernel.reshape(-1, *kernel.shape[len(self._factor) + 1 :])
        phases = Weights(kernel, weights.bias.repeat(copies), weights.activation)
        self._convolve = Convolve(Convolution(phases, dtype, device))
        # Phases that need fewer than m taps exist for one voxel more at the end.
        self._missing = [
            m - -(-k // f) for m, k, f in zip(phases.size, self._kernel, self._factor, strict=True)
        ]
        self._no_planes: Planes = None

    def reset(self) -> None:
        """Begin anew."""
        self._convolve.reset()
        self._no_planes = None

    def push(self, planes: Planes, last: bool) -> Planes:
        """Planes at low resolution in, planes of the convolution's output at full resolution out.

        With `last` no more planes will come. A plane that is one too many may come out at the end.
        """
        along, *in_plane = self._missing
        along = along if last else 0
        if planes is None:
            if not along:
                return None
            planes = self._no_planes
        if planes is None:
            return None
        self._no_planes = planes[:0]
        pad = [0, 0]
        for missing in (*reversed(in_plane), along):
            pad += [0, missing]
        low = self._convolve.push(F.pad(planes, pad) if any(pad) else planes)
        if low is None:
            return None
        full = interleaved(low, self._factor)
        window = (
            slice(0, size * f - k + 1)
            for size, f, k in zip(
                planes.shape[1:-1], self._factor[1:], self._kernel[1:], strict=True
            )
        )
        return full[(slice(None), *window)]


def _summed_taps(kernel: Tensor, axis: int, factor: int, size: int) -> Tensor:
    """Replace the taps of one axis by m sums for each of `factor` phases.

    `[*f, C_out, C_in, *k]` with `axis` phases in front becomes `[*f, f, C_out, C_in, *k]`: the new
    phases stand behind the others.
    """
    taps = (factor + size - 2) // factor + 1
    place = axis + 2 + axis  # phases of earlier axes, C_out, C_in, earlier axes' taps
    kernel = kernel.movedim(place, -1)
    phases = []
    for phase in range(factor):
        sums = kernel.new_zeros(*kernel.shape[:-1], taps)
        for tap in range(size):
            sums[..., (phase + tap) // factor] += kernel[..., tap]
        phases.append(sums.movedim(-1, place))
    return torch.stack(phases, dim=axis)


class Upsampled:
    """Upsampling that is carried out, and a convolution of what it gives unless that is done later.

    `spread` gives the f phases of every voxel, phases before channels.
    """

    def __init__(
        self,
        spread: Callable[[Tensor], Tensor],
        factor: Sequence[int],
        after: Convolve | None = None,
    ) -> None:
        self._spread = spread
        self._factor = tuple(factor)
        self._after = after

    def reset(self) -> None:
        """Begin anew."""
        if self._after is not None:
            self._after.reset()

    def push(self, planes: Planes, last: bool) -> Planes:  # noqa: ARG002  as UpsampledConvolve
        """Planes at low resolution in, planes at full resolution out."""
        if planes is None:
            return None
        full = interleaved(self._spread(planes), self._factor)
        return full if self._after is None else self._after.push(full)
