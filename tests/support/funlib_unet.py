"""The U-Net of funlib.learn.torch and StandardUnet of fly_organelles, written after their source.

They are not on the package registry. Layers, names and crops are theirs; what the tests do not use
(several heads, 4-D, same padding) is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

CONVOLUTIONS = {2: nn.Conv2d, 3: nn.Conv3d}
POOLS = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
TRANSPOSED = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
Kernels = Sequence[Sequence[Sequence[int]]]


class ConvPass(nn.Module):
    def __init__(self, fmaps_in: int, fmaps_out: int, kernels: Sequence[Any], activation: str):
        super().__init__()
        layers: list[nn.Module] = []
        for kernel in kernels:
            layers.append(CONVOLUTIONS[len(kernel)](fmaps_in, fmaps_out, tuple(kernel)))
            layers.append(getattr(nn, activation)())
            fmaps_in = fmaps_out
        self.conv_pass = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv_pass(x)


class Downsample(nn.Module):
    def __init__(self, factor: Sequence[int]):
        super().__init__()
        self.down = POOLS[len(factor)](tuple(factor), stride=tuple(factor))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if any(size % f for size, f in zip(x.shape[2:], self.down.kernel_size, strict=True)):
            raise RuntimeError(f"Can not downsample shape {x.shape}")
        return self.down(x)


def crop(x: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    for axis, (size, wanted) in enumerate(zip(x.shape[2:], shape, strict=True), start=2):
        x = x.narrow(axis, (size - wanted) // 2, wanted)
    return x


class Upsample(nn.Module):
    """Nearest-neighbour or transposed, with all channels; cropped for equivariance."""

    def __init__(
        self,
        factor: Sequence[int],
        channels: int,
        crop_factor: Sequence[int],
        kernels: Sequence[Sequence[int]],
        constant: bool,
    ):
        super().__init__()
        self.crop_factor, self.kernels = crop_factor, kernels
        if constant:
            self.up: nn.Module = nn.Upsample(scale_factor=tuple(factor), mode="nearest")
        else:
            up = TRANSPOSED[len(factor)]
            self.up = up(channels, channels, kernel_size=tuple(factor), stride=tuple(factor))

    def forward(self, f_left: torch.Tensor, g_out: torch.Tensor) -> torch.Tensor:
        up = self.up(g_out)
        lost = [sum(k[a] - 1 for k in self.kernels) for a in range(up.dim() - 2)]
        shape = [
            (s - c) // f * f + c
            for s, c, f in zip(up.shape[2:], lost, self.crop_factor, strict=True)
        ]
        up = crop(up, shape)
        return torch.cat([crop(f_left, up.shape[2:]), up], dim=1)


class UNet(nn.Module):
    def __init__(
        self,
        in_channels: int,
        num_fmaps: int,
        fmap_inc_factor: int,
        downsample_factors: Sequence[Sequence[int]],
        kernel_size_down: Kernels | None = None,
        kernel_size_up: Kernels | None = None,
        activation: str = "ReLU",
        constant_upsample: bool = False,
    ):
        super().__init__()
        dims, steps = len(downsample_factors[0]), len(downsample_factors)
        threes = [(3,) * dims] * 2
        down, up = kernel_size_down or [threes] * (steps + 1), kernel_size_up or [threes] * steps
        fmaps = [num_fmaps * fmap_inc_factor**level for level in range(steps + 1)]
        crops = [[1] * dims]
        for factor in reversed(downsample_factors):
            crops.insert(0, [f * g for f, g in zip(factor, crops[0], strict=True)])
        self.l_conv = nn.ModuleList(
            ConvPass(fmaps_in, fmaps_out, kernels, activation)
            for fmaps_in, fmaps_out, kernels in zip(
                [in_channels, *fmaps], fmaps, down, strict=False
            )
        )
        self.l_down = nn.ModuleList(map(Downsample, downsample_factors))
        ups = [
            Upsample(factor, fmaps[i + 1], crops[i], up[i], constant_upsample)
            for i, factor in enumerate(downsample_factors)
        ]
        self.r_up = nn.ModuleList([nn.ModuleList(ups)])
        rights = [
            ConvPass(fmaps[i] + fmaps[i + 1], fmaps[i], up[i], activation) for i in range(steps)
        ]
        self.r_conv = nn.ModuleList([nn.ModuleList(rights)])

    def forward(self, x: torch.Tensor, level: int = 0) -> torch.Tensor:
        f_left = self.l_conv[level](x)
        if level == len(self.l_down):
            return f_left
        g_out = self(self.l_down[level](f_left), level + 1)
        return self.r_conv[0][level](self.r_up[0][level](f_left, g_out))


class StandardUnet(nn.Module):
    """fly_organelles' network: funlib's U-Net and a 1x1 convolution; the sigmoid is outside."""

    def __init__(self, out_channels: int, num_fmaps: int, fmap_inc_factor: int, levels: int = 4):
        super().__init__()
        self.unet_backbone = UNet(
            in_channels=1,
            num_fmaps=num_fmaps,
            fmap_inc_factor=fmap_inc_factor,
            downsample_factors=[(2, 2, 2)] * (levels - 1),
            kernel_size_down=[[(3, 3, 3)] * 3] * levels,
            constant_upsample=True,
        )
        self.final_conv = nn.Conv3d(num_fmaps, out_channels, (1, 1, 1), padding="valid")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.final_conv(self.unet_backbone(x))
