"""The stages of a stream as torch's forward pass has them, one operation after another.

For tiles with values that are not finite, or too large to be sure: more arithmetic and memory than
what `building` makes, but every sum has the terms that torch's has, and no others.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch

from blockwise_predict.engine.building import Builder
from blockwise_predict.engine.convolution import Convolution, Weights
from blockwise_predict.engine.range import affine
from blockwise_predict.engine.stages import Layer, Merge, Upsampling
from blockwise_predict.engine.upsampling import Upsampled

Tensor = torch.Tensor


class PlainConvolution:
    """A convolution with bias, then batch norm, then activation.

    What is given and comes out is of `dtype`, or `gives`. On a CPU, products are made in float32:
    oneDNN's kernels for bfloat16 in 2-D multiply values of neighbouring voxels by zeros with which
    they fill up channels, and NaN times zero is NaN.
    """

    def __init__(
        self,
        weights: Weights,
        dtype: torch.dtype,
        device: torch.device,
        gives: torch.dtype | None = None,
    ) -> None:
        self.size = weights.size
        self._dtype = dtype
        self._gives = gives or dtype
        self._computes = torch.float32 if device.type == "cpu" else dtype
        kernel, bias = (part.to(dtype).float() for part in (weights.kernel, weights.bias))
        self._convolve = Convolution(Weights(kernel, bias, None), self._computes, device)
        self._norm = None
        if weights.norm is not None:
            self._norm = [part.to(device) for part in affine(weights.norm)]
        self._activation = weights.activation

    def __call__(self, planes: Tensor) -> Tensor:
        """`[D, *plane, C_in]` to `[D - k + 1, *(plane - k + 1), C_out]`."""
        y = self._convolve(planes.to(self._computes)).to(self._dtype)
        if self._norm is not None:
            gain, shift = self._norm
            y = (y.float() * gain + shift).to(self._dtype)
        y = y if self._activation is None else self._activation(y)
        return y.to(self._gives)


class Concatenation:
    """Both maps side by side."""

    overlap = 0

    def __call__(self, upsampled: Tensor, skip: Tensor) -> Tensor:
        """See `Merge`."""
        return torch.cat([skip, upsampled], dim=-1)


class PlainBuilder(Builder):
    """Builds the same network with nothing folded, summed beforehand or left out."""

    def _layer(
        self, weights: Weights, dtype: torch.dtype, gives: torch.dtype | None = None
    ) -> Layer:
        return PlainConvolution(weights, dtype, self._target.device, gives)

    def _transposed(
        self,
        spread: Layer,
        after: Weights,  # noqa: ARG002  one of `_after_upsampling`
        factor: Sequence[int],
        dtype: torch.dtype,  # noqa: ARG002
    ) -> Upsampling:
        return Upsampled(spread, factor)

    def _repeated(
        self,
        after: Weights,  # noqa: ARG002  one of `_after_upsampling`
        factor: Sequence[int],
        dtype: torch.dtype,  # noqa: ARG002
    ) -> Upsampling:
        phases = prod(factor)
        return Upsampled(lambda planes: torch.cat([planes] * phases, dim=-1), factor)

    def _merge(self, left: Weights, dtype: torch.dtype) -> Merge:  # noqa: ARG002
        return Concatenation()

    def _after_upsampling(self, weights: Sequence[Weights]) -> Sequence[Weights]:
        return weights
