"""Convolutions prepared once for a device and a dtype, over planes `[D, *plane, C]`.

Memory is channels-last: a plane is contiguous, so appending planes is a plain copy, and oneDNN and
cuDNN run their fastest kernels. `D` is the streamed axis; `plane` has one axis less than the
network. In a network with time, the frames are the last axis of a plane, before the channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.nn import functional as F

from blockwise_predict.architectures import Conv4d, ConvPass
from blockwise_predict.engine.overflow import RangeMonitor

Tensor = torch.Tensor


@dataclass(frozen=True)
class ConvWeights:
    """A trained convolution; `kernel` is `[C_out, C_in, *k]`, float32.

    With time, taps in time are the last axis. `norm` is a batch norm between bias and activation,
    if there is one.
    """

    kernel: Tensor
    bias: Tensor
    activation: nn.Module | None
    norm: nn.BatchNorm2d | nn.BatchNorm3d | None = None

    @property
    def kernel_size(self) -> tuple[int, ...]:
        """Kernel size along each axis."""
        return tuple(self.kernel.shape[2:])


def conv_pass_weights(conv_pass: ConvPass, axes: Sequence[int]) -> list[ConvWeights]:
    """The convolutions of a ConvPass in eval mode, spatial axes in the order `axes`."""
    found: list[ConvWeights] = []
    for layer in conv_pass.conv_pass:
        if isinstance(layer, (nn.Conv2d, nn.Conv3d, Conv4d)):
            found.append(layer_weights(layer, axes))
        elif isinstance(layer, (nn.BatchNorm2d, nn.BatchNorm3d)):
            found[-1] = replace(found[-1], norm=layer)
        else:
            found[-1] = replace(found[-1], activation=layer)
    return found


def layer_weights(
    layer: nn.Module, axes: Sequence[int], activation: nn.Module | None = None
) -> ConvWeights:
    """The weights of a convolution, spatial axes in the order `axes`."""
    assert isinstance(layer, (nn.Conv2d, nn.Conv3d, Conv4d))
    kernel = layer.weight.detach().float()
    bias = layer.bias
    if bias is None:
        bias = kernel.new_zeros(len(kernel))
    return ConvWeights(permute_spatial(kernel, axes), bias.detach().float(), activation)


def permute_spatial(kernel: Tensor, axes: Sequence[int]) -> Tensor:
    """A kernel `[a, b, *k]` with its spatial axes in the order `axes`.

    A kernel without time gets one tap in time where `axes` has a fourth axis.
    """
    if kernel.dim() - 2 < len(axes) == 4:
        kernel = kernel[:, :, None]
    return kernel.permute(0, 1, *(2 + axis for axis in axes))


def fold_batch_norm(weights: ConvWeights) -> ConvWeights:
    """Fold the batch norm, if any, into kernel and bias.

    Batch norm is `(y - mean) * g + beta` with `g = gamma / sqrt(var + eps)`, so the kernel becomes
    `g * kernel` and the bias `(bias - mean) * g + beta`.
    """
    norm = weights.norm
    if norm is None:
        return weights
    assert norm.running_mean is not None
    assert norm.running_var is not None
    gain = (norm.running_var + norm.eps).rsqrt() * norm.weight
    kernel = weights.kernel * gain.view(-1, *[1] * (weights.kernel.dim() - 1))
    bias = (weights.bias - norm.running_mean) * gain + norm.bias
    return ConvWeights(kernel.detach(), bias.detach(), weights.activation)


class Convolution:
    """A valid convolution with bias and activation, over planes `[D, *plane, C]` of `dtype`.

    On a CPU the kernel is kept in oneDNN's own layout, with bias and ReLU fused into the
    convolution; elsewhere torch runs them one after another. The result has `out_dtype`, `dtype`
    by default. `monitor` observes the sums of `add_to` before the activation (not on a CPU).
    """

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
        self._monitor = monitor
        self._out_dtype = out_dtype or dtype
        self._dims = len(weights.kernel_size)
        self._bias = weights.bias.to(device, dtype)
        self._activation = weights.activation
        self._onednn = device.type == "cpu" and _onednn_supports(dtype)
        layout = torch.channels_last if self._dims == 2 else torch.channels_last_3d
        kernel = weights.kernel.to(device, dtype)
        # A tensor on the meta device has no memory layout to change.
        self._kernel = kernel if kernel.is_meta else kernel.contiguous(memory_format=layout)
        self._fused = "none"
        if self._onednn:
            if isinstance(weights.activation, nn.ReLU):
                self._fused, self._activation = "relu", None
            self._kernel = _prepack(kernel, self._geometry)

    @property
    def _geometry(self) -> tuple[list[int], list[int], list[int], int]:
        """Padding, stride, dilation, groups."""
        return [0] * self._dims, [1] * self._dims, [1] * self._dims, 1

    def __call__(self, planes: Tensor) -> Tensor:
        """`[D, *plane, C_in]` to `[D - k + 1, *(plane - k + 1), C_out]`."""
        if not self._onednn:
            return self._activate(self._convolve(planes))
        y = torch.ops.mkldnn._convolution_pointwise(
            _as_batch(planes), self._kernel, self._bias, *self._geometry, self._fused, [], ""
        )
        return self._activate(y[0].movedim(0, -1))

    def add_to(self, total: Tensor, planes: Tensor) -> Tensor:
        """`activation(total + convolution + bias)`, in the memory of `total` where possible."""
        if not self._onednn:
            total = total.add_(self._convolve(planes))
            if self._monitor is not None:
                self._monitor.observe(total)
            return self._activate(total)
        torch.ops.mkldnn._convolution_pointwise_.binary(
            _as_batch(total),
            _as_batch(planes),
            self._kernel,
            self._bias,
            *self._geometry,
            "add",
            1.0,
            None if self._fused == "none" else self._fused,
            [],
            "",
        )
        return self._activate(total)

    def _convolve(self, planes: Tensor) -> Tensor:
        convolve = F.conv2d if self._dims == 2 else F.conv3d
        return convolve(_as_batch(planes), self._kernel, self._bias)[0].movedim(0, -1)

    def _activate(self, planes: Tensor) -> Tensor:
        planes = planes.contiguous()
        if isinstance(self._activation, nn.ReLU):
            planes = planes.relu_()
        elif self._activation is not None:
            planes = self._activation(planes)
        return planes.to(self._out_dtype)


def _as_batch(planes: Tensor) -> Tensor:
    """`[D, *plane, C]` in torch's axis order: `[1, C, D, *plane]` in channels-last memory."""
    return planes.movedim(-1, 0)[None]


def _onednn_supports(dtype: torch.dtype) -> bool:
    """Whether oneDNN has convolutions of this dtype on this CPU."""
    if not torch.backends.mkldnn.is_available():
        return False
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype == torch.float32


def _prepack(kernel: Tensor, geometry: tuple[list[int], list[int], list[int], int]) -> Tensor:
    """The kernel in oneDNN's layout, which depends a little on the input size; this is typical."""
    example = [1, kernel.shape[1], 16] + [96] * (kernel.dim() - 3)
    packed: Tensor = torch.ops.mkldnn._reorder_convolution_weight(kernel, *geometry, example)
    return packed
