"""Convolutions prepared once for a device and a dtype, over planes `[D, *plane, C]`.

Channels last: a plane is contiguous, so planes are appended by a plain copy, and oneDNN and cuDNN
are at their best. `D` is the streamed axis; `plane` has one axis less than the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.nn import functional as F

from blockwise_predict.architectures import ConvPass
from blockwise_predict.engine.range import RangeWatch

Tensor = torch.Tensor


@dataclass(frozen=True)
class Weights:
    """A convolution as trained: `kernel` is `[C_out, C_in, *k]`, float32.

    A batch norm between bias and activation is `norm`.
    """

    kernel: Tensor
    bias: Tensor
    activation: nn.Module | None
    norm: nn.BatchNorm2d | nn.BatchNorm3d | None = None

    @property
    def size(self) -> tuple[int, ...]:
        """Kernel size along each axis."""
        return tuple(self.kernel.shape[2:])


def convolutions(conv_pass: ConvPass, axes: Sequence[int]) -> list[Weights]:
    """The convolutions of a ConvPass in eval mode, axes in this order."""
    found: list[Weights] = []
    for layer in conv_pass.conv_pass:
        if isinstance(layer, (nn.Conv2d, nn.Conv3d)):
            found.append(trained(layer, axes))
        elif isinstance(layer, (nn.BatchNorm2d, nn.BatchNorm3d)):
            found[-1] = replace(found[-1], norm=layer)
        else:
            found[-1] = replace(found[-1], activation=layer)
    return found


def folded(weights: Weights) -> Weights:
    """The same with its batch norm folded in.

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
    return Weights(kernel.detach(), bias.detach(), weights.activation)


def trained(layer: nn.Module, axes: Sequence[int], activation: nn.Module | None = None) -> Weights:
    """The weights of a convolution of torch, its spatial axes in the order `axes`."""
    assert isinstance(layer, (nn.Conv2d, nn.Conv3d))
    kernel = layer.weight.detach().float()
    bias = layer.bias
    if bias is None:
        bias = kernel.new_zeros(len(kernel))
    return Weights(reorder(kernel, axes), bias.detach().float(), activation)


def reorder(kernel: Tensor, axes: Sequence[int]) -> Tensor:
    """A kernel `[a, b, *k]` with its spatial axes in another order."""
    return kernel.permute(0, 1, *(2 + axis for axis in axes))


class Convolution:
    """A valid convolution with bias and activation, over planes `[D, *plane, C]` of `dtype`.

    On a CPU its kernel is kept in oneDNN's own layout, and bias and ReLU are applied as the
    product is made; elsewhere torch does one after the other. What comes out is of the dtype
    `gives`, if that is another. `watch` looks at the sums of `add_to` before the activation (not
    on a CPU).
    """

    def __init__(
        self,
        weights: Weights,
        dtype: torch.dtype,
        device: torch.device,
        gives: torch.dtype | None = None,
        watch: RangeWatch | None = None,
    ) -> None:
        self.size = weights.size
        self._watch = watch
        self._gives = gives or dtype
        self._dims = len(weights.size)
        self._bias = weights.bias.to(device, dtype)
        self._activation = weights.activation
        self._onednn = device.type == "cpu" and _onednn_has(dtype)
        layout = torch.channels_last if self._dims == 2 else torch.channels_last_3d
        kernel = weights.kernel.to(device, dtype)
        # On torch's meta device nothing is laid out.
        self._kernel = kernel if kernel.is_meta else kernel.contiguous(memory_format=layout)
        self._fused = "none"
        if self._onednn:
            if isinstance(weights.activation, nn.ReLU):
                self._fused, self._activation = "relu", None
            self._kernel = _reordered(kernel, self._geometry)

    @property
    def _geometry(self) -> tuple[list[int], list[int], list[int], int]:
        """Padding, stride, dilation, groups."""
        return [0] * self._dims, [1] * self._dims, [1] * self._dims, 1

    def __call__(self, planes: Tensor) -> Tensor:
        """`[D, *plane, C_in]` to `[D - k + 1, *(plane - k + 1), C_out]`."""
        if not self._onednn:
            return self._activated(self._product(planes))
        y = torch.ops.mkldnn._convolution_pointwise(
            _as_batch(planes), self._kernel, self._bias, *self._geometry, self._fused, [], ""
        )
        return self._activated(y[0].movedim(0, -1))

    def add_to(self, total: Tensor, planes: Tensor) -> Tensor:
        """`activation(total + convolution + bias)`, in the memory of `total` where possible."""
        if not self._onednn:
            total = total.add_(self._product(planes))
            if self._watch is not None:
                self._watch.look(total)
            return self._activated(total)
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
        return self._activated(total)

    def _product(self, planes: Tensor) -> Tensor:
        convolve = F.conv2d if self._dims == 2 else F.conv3d
        return convolve(_as_batch(planes), self._kernel, self._bias)[0].movedim(0, -1)

    def _activated(self, planes: Tensor) -> Tensor:
        planes = planes.contiguous()
        if isinstance(self._activation, nn.ReLU):
            planes = planes.relu_()
        elif self._activation is not None:
            planes = self._activation(planes)
        return planes.to(self._gives)


def _as_batch(planes: Tensor) -> Tensor:
    """`[D, *plane, C]` as torch wants it, `[1, C, D, *plane]` in channels-last memory."""
    return planes.movedim(-1, 0)[None]


def _onednn_has(dtype: torch.dtype) -> bool:
    """Whether oneDNN computes in this dtype on this CPU."""
    if not torch.backends.mkldnn.is_available():
        return False
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype == torch.float32


def _reordered(kernel: Tensor, geometry: tuple[list[int], list[int], list[int], int]) -> Tensor:
    # The layout that oneDNN chooses depends a little on the input's size; this one is typical.
    example = [1, kernel.shape[1], 16] + [96] * (kernel.dim() - 3)
    reordered: Tensor = torch.ops.mkldnn._reorder_convolution_weight(kernel, *geometry, example)
    return reordered
