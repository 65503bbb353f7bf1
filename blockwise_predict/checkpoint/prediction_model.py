"""The torch module of a CNNectomeUNet with its prediction heads."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from blockwise_predict.architectures import (
    CNNectomeUNet,
    CNNectomeUNetConfig,
    OutputActivations,
    SeparateHeads,
)
from blockwise_predict.architectures.frames import on_each_frame
from blockwise_predict.checkpoint.activation import activation_module
from blockwise_predict.checkpoint.head import Head
from blockwise_predict.checkpoint.outputs import NetworkOutput


class PredictionModel(nn.Module):
    """Architecture, heads and evaluation activation: `[B, C, *in]` to `[B, K, *out]`.

    The heads are convolutions in space; in a network with time they act on each frame. Attributes
    have the same names as in DaCapo's model. `outputs` are those of a network with several. A U-Net
    with several expanding paths has a head for each, which is one of the outputs.
    """

    def __init__(
        self,
        architecture: CNNectomeUNetConfig,
        head: Head | None,
        outputs: Sequence[NetworkOutput] = (),
        activation: str | None = None,
    ) -> None:
        super().__init__()
        self.architecture = CNNectomeUNet(architecture)
        self.prediction_head: nn.Module = nn.Identity()
        self.eval_activation = activation_module(activation)
        sizes = [len(output.channel_names) for output in outputs]
        if architecture.num_heads > 1:
            self.prediction_head = SeparateHeads(
                nn.Identity() if head is None else self._convolution(head, size) for size in sizes
            )
        elif head is not None:
            self.prediction_head = self._convolution(head, head.channels)
        activations = {output.activation for output in outputs}
        if len(activations) > 1:
            self.eval_activation = OutputActivations(
                (len(output.channel_names), output.activation) for output in outputs
            )
        elif head is not None and head.activation is not None:
            self.eval_activation = getattr(nn, head.activation)()

    def _convolution(self, head: Head, channels: int) -> nn.Module:
        conv = nn.Conv2d if self.architecture.dims == 2 else nn.Conv3d
        return conv(self.architecture.num_out_channels, channels, head.kernel_size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Output values, after the activation."""
        features = self.architecture(x)
        head = self.prediction_head
        separate = isinstance(head, SeparateHeads)
        values = head(features) if separate else on_each_frame(head, features)
        result: torch.Tensor = self.eval_activation(values)
        return result
