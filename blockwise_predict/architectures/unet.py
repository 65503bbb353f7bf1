"""The U-Net: contracting path, expanding paths (one per head), and the recursion over levels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn

from blockwise_predict.architectures.kernels import default_kernels
from blockwise_predict.architectures.layers import (
    AttentionBlockModule,
    ConvPass,
    Downsample,
    Upsample,
)
from blockwise_predict.architectures.shapes import UNetShapes


class CNNectomeUNetModule(nn.Module):
    """A U-Net that crops its feature maps so that it stays translation-equivariant.

    Level 0 has the full resolution. Level l has `num_fmaps * fmap_inc_factor ** l` feature maps.
    Arguments are as in `CNNectomeUNetConfig`, and:

    activation: name of a `torch.nn` activation; AttributeError if it does not exist.
    num_fmaps_out: number of output channels, `num_fmaps` if None.
    num_heads: number of expanding paths; with more than one, `forward` returns a list.
    upsample_channel_contraction: whether upsampling reduces the channels to those of the level,
        for all levels or for each.
    activation_on_upsample: whether upsampling ends with the activation.
    upsample_convolution: whether a 1x1 convolution follows constant upsampling.

    With kernels of four components (t, z, y, x), the network takes `[B, C, T, z, y, x]` (see
    `frames`): they act in time, kernels of three components, pooling and upsampling on each frame.
    The skip connections' frames are cropped to the centre.

    Raises AttributeError naming required arguments that are None, and RuntimeError unless the
    network is 2-D or 3-D, with or without time.
    """

    def __init__(
        self,
        in_channels: int,
        num_fmaps: int,
        fmap_inc_factor: int,
        downsample_factors: Sequence[Sequence[int]],
        kernel_size_down: Sequence[Sequence[Sequence[int]]] | None = None,
        kernel_size_up: Sequence[Sequence[Sequence[int]]] | None = None,
        activation: str = "ReLU",
        num_fmaps_out: int | None = None,
        num_heads: int = 1,
        constant_upsample: bool = False,
        padding: str = "valid",
        upsample_channel_contraction: bool | Sequence[bool] = False,
        activation_on_upsample: bool = False,
        use_attention: bool = False,
        batch_norm: bool = True,
        upsample_convolution: bool = True,
    ) -> None:
        super().__init__()
        required = {
            "in_channels": in_channels,
            "num_fmaps": num_fmaps,
            "fmap_inc_factor": fmap_inc_factor,
            "downsample_factors": downsample_factors,
        }
        missing = [name for name, value in required.items() if value is None]
        if missing:
            raise AttributeError(f"CNNectomeUNetModule requires {', '.join(missing)}")
        if len(downsample_factors) == 0:
            raise RuntimeError("downsample_factors is empty: a U-Net needs at least one factor")
        self.dims = len(downsample_factors[0])
        self.num_levels = len(downsample_factors) + 1
        self.num_heads = num_heads
        self.in_channels = in_channels
        self.out_channels = num_fmaps_out or num_fmaps
        self.use_attention = use_attention
        self.batch_norm = batch_norm
        self.kernel_size_down = kernel_size_down or default_kernels(self.dims, self.num_levels)
        self.kernel_size_up = kernel_size_up or default_kernels(self.dims, self.num_levels - 1)
        if isinstance(upsample_channel_contraction, bool):
            upsample_channel_contraction = [upsample_channel_contraction] * self.num_levels
        self._shapes = UNetShapes.from_layers(
            downsample_factors,
            self.kernel_size_down,
            self.kernel_size_up,
            padding,
            use_attention=use_attention,
        )
        # Factors are of space alone, but a network with time has one dimension more.
        space = self.dims
        self.dims = self._shapes.dims
        fmaps = [num_fmaps * fmap_inc_factor**level for level in range(self.num_levels)]
        up = [fmaps[i + (not upsample_channel_contraction[i])] for i in range(self.num_levels - 1)]
        out = [num_fmaps if num_fmaps_out is None else num_fmaps_out, *fmaps[1:]]

        def conv_pass(fmaps_in: int, fmaps_out: int, kernels: Sequence[Sequence[int]]) -> ConvPass:
            return ConvPass(fmaps_in, fmaps_out, kernels, activation, padding, batch_norm)

        def upsample(level: int) -> Upsample:
            return Upsample(
                downsample_factors[level],
                mode="nearest" if constant_upsample else "transposed_conv",
                in_channels=fmaps[level + 1],
                out_channels=up[level],
                crop_factor=self._shapes.crop_factor(level)[-space:],
                next_conv_kernel_sizes=self.kernel_size_up[level],
                activation=activation if activation_on_upsample else None,
                convolution=upsample_convolution,
            )

        def attention(level: int) -> AttentionBlockModule:
            between = up[level] if num_fmaps_out is None or level != 0 else num_fmaps_out
            factor = downsample_factors[level]
            return AttentionBlockModule(
                fmaps[level + 1], fmaps[level], between, self.dims, factor, batch_norm
            )

        levels = range(self.num_levels - 1)
        heads = range(num_heads)
        self.l_conv = nn.ModuleList(
            conv_pass(fmaps_in, fmaps_out, kernels)
            for fmaps_in, fmaps_out, kernels in zip(
                [in_channels, *fmaps], fmaps, self.kernel_size_down, strict=False
            )
        )
        self.l_down = nn.ModuleList(Downsample(factor) for factor in downsample_factors)
        self.r_up = nn.ModuleList(nn.ModuleList(map(upsample, levels)) for _ in heads)
        if use_attention:
            self.attention = nn.ModuleList(nn.ModuleList(map(attention, levels)) for _ in heads)
        self.r_conv = nn.ModuleList(
            nn.ModuleList(
                conv_pass(fmaps[i] + up[i], out[i], self.kernel_size_up[i]) for i in levels
            )
            for _ in heads
        )

    def keep_heads(self, heads: Sequence[int]) -> None:
        """Drop all expanding paths but these."""
        self.num_heads = len(heads)
        self.r_up = nn.ModuleList(self.r_up[head] for head in heads)
        self.r_conv = nn.ModuleList(self.r_conv[head] for head in heads)
        if self.use_attention:
            self.attention = nn.ModuleList(self.attention[head] for head in heads)

    def rec_forward(self, level: int, f_in: torch.Tensor) -> list[torch.Tensor]:
        """The output of a level and all levels below it, one item per head.

        `level` counts from the bottom, as in DaCapo: 0 is the deepest. `f_in` is
        `[B, C, *spatial]` at that level's resolution.
        """
        i = self.num_levels - level - 1
        f_left = self.l_conv[i](f_in)
        del f_in  # frees its memory for the deeper levels
        if level == 0:
            return [f_left] * self.num_heads
        gs_out = self.rec_forward(level - 1, self.l_down[i](f_left))
        return [self._up_path(i, head, g_out, f_left) for head, g_out in enumerate(gs_out)]

    def _up_path(
        self, i: int, head: int, g_out: torch.Tensor, f_left: torch.Tensor
    ) -> torch.Tensor:
        """The expanding path of level i for one head."""
        if self.use_attention:
            f_left = _at(self.attention, head, i)(g_out, f_left)
        merged = _at(self.r_up, head, i)(g_out, f_left)
        result: torch.Tensor = _at(self.r_conv, head, i)(merged)
        return result

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """`[B, in_channels, *input]` to `[B, out_channels, *output]`; a list with several heads.

        Raises RuntimeError for an invalid input shape, naming the size, the level and valid sizes.
        """
        self._shapes.output_shape(tuple(x.shape[2:]))
        y = self.rec_forward(self.num_levels - 1, x)
        return y[0] if self.num_heads == 1 else y


def _at(modules: nn.ModuleList, head: int, level: int) -> nn.Module:
    return cast(nn.ModuleList, modules[head])[level]
