"""The stages of a stream exactly as in torch's forward pass, one operation after another.

For tiles with values that are not finite, or so large that they might overflow: more arithmetic and
memory than the fused stages of `builder`, but every sum has the terms it has in torch, and no
others.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch

from blockwise_predict.engine.builder import Builder
from blockwise_predict.engine.convolution import ConvWeights
from blockwise_predict.engine.frames import make_convolution
from blockwise_predict.engine.overflow import batch_norm_affine
from blockwise_predict.engine.stages import Layer, MergeOp, Upsampling
from blockwise_predict.engine.upsampling import ExplicitUpsampling

Tensor = torch.Tensor


class UnfusedConvolution:
    """A convolution with bias, then batch norm, then activation.

    Input and output have `dtype`; the output `out_dtype`, if given. On a CPU, products are computed
    in float32: oneDNN's 2-D bfloat16 kernels multiply neighbouring voxels by the zeros that pad the
    channels, and NaN times zero is NaN.
    """

    def __init__(
        self,
        weights: ConvWeights,
        dtype: torch.dtype,
        device: torch.device,
        out_dtype: torch.dtype | None = None,
    ) -> None:
        self.kernel_size = weights.kernel_size
        self._dtype = dtype
        self._out_dtype = out_dtype or dtype
        self._compute_dtype = torch.float32 if device.type == "cpu" else dtype
        kernel, bias = (part.to(dtype).float() for part in (weights.kernel, weights.bias))
        self._convolution = make_convolution(
            ConvWeights(kernel, bias, None), self._compute_dtype, device
        )
        self._norm = None
        if weights.norm is not None:
            self._norm = [part.to(device) for part in batch_norm_affine(weights.norm)]
        self._activation = weights.activation

    def __call__(self, planes: Tensor) -> Tensor:
        """`[D, *plane, C_in]` to `[D - k + 1, *(plane - k + 1), C_out]`."""
        y = self._convolution(planes.to(self._compute_dtype)).to(self._dtype)
        if self._norm is not None:
            gain, shift = self._norm
            y = (y.float() * gain + shift).to(self._dtype)
        y = y if self._activation is None else self._activation(y)
        return y.to(self._out_dtype)


class ConcatMerge:
    """Concatenates skip connection and upsampled map along the channels."""

    overlap = 0

    def __call__(self, upsampled: Tensor, skip: Tensor) -> Tensor:
        """See `MergeOp`."""
        return torch.cat([skip, upsampled], dim=-1)


class UnfusedBuilder(Builder):
    """Builds the same network with nothing folded, fused or summed in advance."""

    def _layer(
        self, weights: ConvWeights, dtype: torch.dtype, out_dtype: torch.dtype | None = None
    ) -> Layer:
        return UnfusedConvolution(weights, dtype, self._spec.device, out_dtype)

    def _transposed(
        self,
        to_phases: Layer,
        following: ConvWeights,  # noqa: ARG002  part of `_after_upsampling`
        factor: Sequence[int],
        dtype: torch.dtype,  # noqa: ARG002
    ) -> Upsampling:
        return ExplicitUpsampling(to_phases, factor)

    def _nearest(
        self,
        following: ConvWeights,  # noqa: ARG002  part of `_after_upsampling`
        factor: Sequence[int],
        dtype: torch.dtype,  # noqa: ARG002
    ) -> Upsampling:
        phases = prod(factor)
        return ExplicitUpsampling(lambda planes: torch.cat([planes] * phases, dim=-1), factor)

    def _merge_op(self, skip_weights: ConvWeights, dtype: torch.dtype) -> MergeOp:  # noqa: ARG002
        return ConcatMerge()

    def _after_upsampling(self, weights: Sequence[ConvWeights]) -> Sequence[ConvWeights]:
        return weights
