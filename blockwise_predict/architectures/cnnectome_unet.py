"""CNNectomeUNet: a U-Net built from a configuration, optionally with super-resolution."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from funlib.geometry import Coordinate
from torch import nn

from blockwise_predict.architectures.channels import contraction_of
from blockwise_predict.architectures.config import REQUIRED, CNNectomeUNetConfig
from blockwise_predict.architectures.kernels import network_kernels
from blockwise_predict.architectures.layers import ConvPass, Upsample
from blockwise_predict.architectures.unet import CNNectomeUNetModule


class CNNectomeUNet(nn.Module):
    """DaCapo's CNNectomeUNet, with the same attributes, methods and state-dict keys.

    `architecture_config` is a `CNNectomeUNetConfig`, DaCapo's or ours. Raises AttributeError naming
    required settings that are missing or None, and RuntimeError unless the network is 2-D or 3-D.

    With an `input_shape` of (length, depth, height, width) it convolves in time as well, as long as
    length is greater than 1 (see `network_kernels`); factors are of space.
    """

    def __init__(self, architecture_config: CNNectomeUNetConfig) -> None:
        super().__init__()
        config: Any = architecture_config
        missing = [name for name in REQUIRED if getattr(config, name, None) is None]
        if missing:
            raise AttributeError(f"the CNNectomeUNet's configuration lacks {', '.join(missing)}")
        self._input_shape = config.input_shape
        self._eval_shape_increase = config._eval_shape_increase
        self.fmaps_out = config.fmaps_out
        self.fmaps_in = config.fmaps_in
        self.num_fmaps = config.num_fmaps
        self.fmap_inc_factor = config.fmap_inc_factor
        self.downsample_factors = config.downsample_factors
        self.kernel_size_down = config.kernel_size_down
        self.kernel_size_up = config.kernel_size_up
        self.constant_upsample = config.constant_upsample
        self.padding = config.padding
        self.upsample_factors = [] if config.upsample_factors is None else config.upsample_factors
        self.use_attention = config.use_attention
        self.batch_norm = config.batch_norm
        # DaCapo's own configurations lack these.
        self.super_resolution_kernels = getattr(config, "super_resolution_kernels", None)
        self.activation = getattr(config, "activation", "ReLU")
        self.activation_on_upsample = getattr(config, "activation_on_upsample", True)
        self.upsample_channel_contraction = getattr(config, "upsample_channel_contraction", None)
        self.upsample_convolution = getattr(config, "upsample_convolution", True)
        self.num_heads = getattr(config, "num_heads", 1)
        self.unet = self.module()

    @property
    def input_shape(self) -> Coordinate:
        """Input shape of training, voxels."""
        return Coordinate(self._input_shape)

    @property
    def eval_shape_increase(self) -> Coordinate:
        """What DaCapo adds to `input_shape` for prediction; zeros if not configured."""
        return Coordinate(self._eval_shape_increase or (0,) * self.dims)

    @property
    def dims(self) -> int:
        """Number of axes, 4 with time."""
        return len(self._input_shape)

    @property
    def num_in_channels(self) -> int:
        """Number of input channels."""
        return int(self.fmaps_in)

    @property
    def num_out_channels(self) -> int:
        """Number of output channels."""
        return int(self.fmaps_out)

    def module(self) -> nn.Module:
        """A new U-Net with these settings, in a Sequential if super-resolution follows it."""
        steps = len(self.downsample_factors)
        kernels = network_kernels(self)
        unet = CNNectomeUNetModule(
            in_channels=self.fmaps_in,
            num_fmaps=self.num_fmaps,
            num_fmaps_out=self.fmaps_out,
            fmap_inc_factor=self.fmap_inc_factor,
            kernel_size_down=kernels.down,
            kernel_size_up=kernels.up,
            downsample_factors=[tuple(factor) for factor in self.downsample_factors],
            activation=self.activation,
            constant_upsample=self.constant_upsample,
            padding=self.padding,
            activation_on_upsample=self.activation_on_upsample,
            upsample_channel_contraction=contraction_of(self.upsample_channel_contraction, steps),
            use_attention=self.use_attention,
            batch_norm=self.batch_norm,
            upsample_convolution=self.upsample_convolution,
            num_heads=self.num_heads,
        )
        layers: list[nn.Module] = [unet]
        on_upsample = self.activation if self.activation_on_upsample else None
        for factor in self.upsample_factors:
            fmaps = self.fmaps_out
            layers.append(Upsample(factor, "nearest", fmaps, fmaps, activation=on_upsample))
            # Always valid, and by default with the deepest level's kernels: as in DaCapo 0.3.5.
            after_upsampling = self.super_resolution_kernels or kernels.up[-1]
            conv_pass = ConvPass(
                fmaps, fmaps, after_upsampling, self.activation, batch_norm=self.batch_norm
            )
            layers.append(conv_pass)
        return nn.Sequential(*layers) if len(layers) > 1 else unet

    def scale(self, voxel_size: Sequence[Any]) -> Sequence[Any]:
        """The output's voxel size for an input voxel size.

        For a Coordinate it is a Coordinate, of whole numbers, as in DaCapo. For any other sequence
        it is a tuple of quotients, which are exact if the items are Fractions.
        """
        factors = [prod(f[axis] for f in self.upsample_factors) for axis in range(self.dims)]
        scaled = tuple(size / factor for size, factor in zip(voxel_size, factors, strict=True))
        return Coordinate(scaled) if isinstance(voxel_size, Coordinate) else scaled

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """`[B, fmaps_in, *input]` to `[B, fmaps_out, *output]`; a list with several heads.

        See UNetShapes for the shapes.
        """
        result: torch.Tensor | list[torch.Tensor] = self.unet(x)
        return result
