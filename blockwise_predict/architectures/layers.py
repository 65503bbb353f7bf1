"""The layers of a CNNectomeUNet. Arguments, attributes and parameters have DaCapo's names.

Tensors are `[B, C, *spatial]` with 2 or 3 spatial axes, or `[B, C, T, z, y, x]` (see `frames`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from blockwise_predict.architectures.frames import (
    WITH_TIME,
    Conv4d,
    centre_frames,
    convolve_in_turn,
    on_each_frame,
)

Shape = tuple[int, ...]


def _for_dims(dims: int, two: Any, three: Any, layer: str) -> Any:
    """`two` for a 2-D network, `three` for a 3-D one; RuntimeError for any other."""
    try:
        return {2: two, 3: three}[dims]
    except KeyError:
        raise RuntimeError(f"{dims}-D {layer} is not implemented, only 2-D and 3-D") from None


def activation_class(name: str | None) -> type[nn.Module] | None:
    """The activation class of that name in `torch.nn`; AttributeError if there is none."""
    if name is None:
        return None
    found = getattr(nn, name, None)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise AttributeError(f"activation {name!r} is not a module class in torch.nn")
    return found


class ConvPass(nn.Module):
    """Consecutive convolutions, each optionally followed by batch norm and activation.

    Kernels of four components are convolutions in time as well (`Conv4d`), which are valid only:
    RuntimeError for any other padding.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_sizes: Sequence[Sequence[int]],
        activation: str | None,
        padding: str = "valid",
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        activate = activation_class(activation)
        layers: list[nn.Module] = []
        for kernel_size in kernel_sizes:
            self.dims = len(kernel_size)
            layers.append(_convolution(in_channels, out_channels, tuple(kernel_size), padding))
            if batch_norm:
                norm = _for_dims(min(self.dims, 3), nn.BatchNorm2d, nn.BatchNorm3d, "batch norm")
                layers.append(norm(out_channels))
            if activate is not None:
                layers.append(activate())
            in_channels = out_channels
        self.conv_pass = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[B, in_channels, *s]` to `[B, out_channels, *(s - sum(k - 1))]`, or `*s` if same."""
        if x.dim() == WITH_TIME:
            return convolve_in_turn(self.conv_pass, x)
        result: torch.Tensor = self.conv_pass(x)
        return result


def _convolution(
    in_channels: int, out_channels: int, kernel_size: Shape, padding: str
) -> nn.Module:
    if len(kernel_size) == 4:
        if padding != "valid":
            raise RuntimeError(f"padding {padding!r} is not implemented for convolutions in time")
        return Conv4d(in_channels, out_channels, kernel_size)
    conv = _for_dims(len(kernel_size), nn.Conv2d, nn.Conv3d, "convolution")
    pad = tuple(k // 2 for k in kernel_size) if padding == "same" else 0
    result: nn.Module = conv(in_channels, out_channels, kernel_size, padding=pad)
    return result


class Downsample(nn.Module):
    """Max pooling by a factor, which must divide the shape."""

    def __init__(self, downsample_factor: Sequence[int]) -> None:
        super().__init__()
        self.dims = len(downsample_factor)
        self.downsample_factor = tuple(downsample_factor)
        pool = _for_dims(self.dims, nn.MaxPool2d, nn.MaxPool3d, "max pooling")
        self.down = pool(self.downsample_factor, stride=self.downsample_factor)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[B, C, *s]` to `[B, C, *(s / factor)]`; RuntimeError if a size is not divisible."""
        shape = tuple(x.shape[-self.dims :])
        for axis, (size, factor) in enumerate(zip(shape, self.downsample_factor, strict=True)):
            if size % factor:
                raise RuntimeError(
                    f"Can not downsample shape {shape} with factor {self.downsample_factor}: "
                    f"size {size} of axis {axis} is not a multiple of {factor}"
                )
        return on_each_frame(self.down, x)


class Upsample(nn.Module):
    """Upsampling, cropped so that the network stays equivariant, then merged with the skip.

    `mode` is `transposed_conv`, or a mode of `torch.nn.Upsample`, followed by a 1x1 convolution
    unless `convolution` is False.
    """

    def __init__(
        self,
        scale_factor: Sequence[int],
        mode: str = "transposed_conv",
        in_channels: int | None = None,
        out_channels: int | None = None,
        crop_factor: Sequence[int] | None = None,
        next_conv_kernel_sizes: Sequence[Sequence[int]] | None = None,
        activation: str | None = None,
        convolution: bool = True,
    ) -> None:
        super().__init__()
        if (crop_factor is None) != (next_conv_kernel_sizes is None):
            raise AssertionError("crop_factor and next_conv_kernel_sizes must be given together")
        for name, value in (("in_channels", in_channels), ("out_channels", out_channels)):
            if value is None:
                raise AttributeError(f"Upsample requires {name}")
        self.crop_factor = crop_factor
        self.next_conv_kernel_sizes = next_conv_kernel_sizes
        self.dims = len(scale_factor)
        factor = tuple(scale_factor)
        layers: list[nn.Module] = []
        if mode == "transposed_conv":
            up = _for_dims(self.dims, nn.ConvTranspose2d, nn.ConvTranspose3d, "upsampling")
            layers.append(up(in_channels, out_channels, kernel_size=factor, stride=factor))
        else:
            # torch expects floats; the factors are whole, so sizes stay exact.
            layers.append(nn.Upsample(scale_factor=tuple(map(float, factor)), mode=mode))
            if convolution:
                conv = _for_dims(self.dims, nn.Conv2d, nn.Conv3d, "upsampling")
                layers.append(conv(in_channels, out_channels, kernel_size=(1,) * self.dims))
        activate = activation_class(activation)
        if activate is not None:
            layers.append(activate())
        # As in DaCapo, a single layer is not wrapped: a Sequential would change its keys.
        self.up = nn.Sequential(*layers) if len(layers) > 1 else layers[0]

    def crop_to_factor(
        self, x: torch.Tensor, factor: Sequence[int], kernel_sizes: Sequence[Sequence[int]]
    ) -> torch.Tensor:
        """Centre-crop so that the size after the next convolutions is a multiple of `factor`.

        Per axis, s' = n*k + c with n = floor((s - c)/k), where k is the factor and c the sum of
        (kernel size - 1). Without the crop the network would not be equivariant to shifts by the
        factor. The formula is that of funlib.learn.torch, from which DaCapo's U-Net descends.
        Raises RuntimeError if the shape is too small.
        """
        shape = tuple(x.shape[-self.dims :])
        # From the end, because kernels with time have one component more.
        lost = tuple(sum(k[axis] - 1 for k in kernel_sizes) for axis in range(-self.dims, 0))
        target = tuple((s - c) // k * k + c for s, c, k in zip(shape, lost, factor, strict=True))
        if target == shape:
            return x
        if any(t != s and t <= c for t, s, c in zip(target, shape, lost, strict=True)):
            raise RuntimeError(
                f"Feature map of shape {shape} is too small to crop to a multiple of "
                f"{tuple(factor)} before convolutions {[tuple(k) for k in kernel_sizes]}"
            )
        return self.crop(x, target)

    def crop(self, x: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
        """Centre-crop the spatial axes to `shape`; an odd voxel is cut at the end.

        Raises RuntimeError if `x` is smaller than that.
        """
        sizes = tuple(x.shape[-self.dims :])
        if any(size < wanted for size, wanted in zip(sizes, shape, strict=True)):
            raise RuntimeError(f"Can not crop shape {sizes} to the larger {tuple(shape)}")
        slices = [slice(None)] * (x.dim() - self.dims)
        for size, wanted in zip(sizes, shape, strict=True):
            begin = (size - wanted) // 2
            slices.append(slice(begin, begin + wanted))
        return x[tuple(slices)]

    def forward(self, g_out: torch.Tensor, f_left: torch.Tensor | None = None) -> torch.Tensor:
        """Upsample `g_out`; with a skip connection `f_left`, returns `[B, C_left + C, *shape]`.

        Of the skip connection's frames, those in the centre are merged.
        """
        g_up = on_each_frame(self.up, g_out)
        if self.crop_factor is not None and self.next_conv_kernel_sizes is not None:
            g_up = self.crop_to_factor(g_up, self.crop_factor, self.next_conv_kernel_sizes)
        if f_left is None:
            return g_up
        f_left = centre_frames(f_left, g_up)
        return torch.cat([self.crop(f_left, g_up.shape[-self.dims :]), g_up], dim=1)


class AttentionBlockModule(nn.Module):
    """Attention gate on a skip connection (Oktay et al. 2018, Attention U-Net).

        g -- W_g --+
                   + -- ReLU -- psi -- upsample -- * -- output
        x -- W_x --+                               x

    The gate is upsampled with aligned corners, so it depends on a voxel's position in the tile.
    """

    def __init__(
        self,
        F_g: int,
        F_l: int,
        F_int: int,
        dims: int,
        upsample_factor: Sequence[int] | None = None,
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        mode = _for_dims(dims, "bilinear", "trilinear", "attention")
        self.dims = dims
        self.kernel_sizes = [(1,) * dims, (1,) * dims]
        self.batch_norm = batch_norm
        factor = (2,) * dims if upsample_factor is None else tuple(upsample_factor)
        self.upsample_factor = factor

        def points(channels_in: int, channels_out: int, activation: str | None) -> ConvPass:
            return ConvPass(
                channels_in, channels_out, self.kernel_sizes, activation, "same", batch_norm
            )

        self.W_g = points(F_g, F_int, None)
        self.W_x = nn.Sequential(points(F_l, F_int, None), Downsample(factor))
        self.psi = points(F_int, 1, "Sigmoid")
        self.up = nn.Upsample(scale_factor=tuple(map(float, factor)), mode=mode, align_corners=True)
        self.relu = nn.ReLU(inplace=True)

    def calculate_and_apply_padding(
        self, smaller_tensor: torch.Tensor, larger_tensor: torch.Tensor
    ) -> torch.Tensor:
        """Zero-pad the smaller tensor to the larger one's shape."""
        padding: list[int] = []
        for axis in range(2, 2 + self.dims):
            missing = larger_tensor.size(axis) - smaller_tensor.size(axis)
            padding.extend([missing // 2, missing - missing // 2])
        # torch pads from the last axis on. DaCapo reverses the flat list, which also swaps the two
        # sides, so an odd zero goes at the begin.
        return nn.functional.pad(smaller_tensor, padding[::-1], mode="constant", value=0)

    def forward(self, g: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Gate `x` (`[B, F_l, *s]`) by `g` (`[B, F_g, *smaller]`); same shape as `x`."""
        x1 = self.W_x(x)
        g1 = self.calculate_and_apply_padding(self.W_g(g), x1)
        gate: torch.Tensor = self.up(self.psi(self.relu(g1 + x1)))
        return x * gate
