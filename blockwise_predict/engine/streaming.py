"""A CNNectomeUNet that takes its input slab by slab, each plane of each feature map once.

What comes out equals one forward pass over all planes, to the rounding of the dtype. Memory grows
with the area of a plane, not with the number of planes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import cast

import torch
from torch import nn

from blockwise_predict.architectures import (
    CNNectomeUNetModule,
    ConvPass,
    Downsample,
    UNetShapes,
    Upsample,
)
from blockwise_predict.engine.convolution import (
    Convolution,
    Weights,
    folded,
    reorder,
    trained,
)
from blockwise_predict.engine.levels import Chain, Level, Right, Tail
from blockwise_predict.engine.stages import Convolve, Join, Planes, Pool
from blockwise_predict.engine.upsampling import TransposedConvolve, UpsampledConvolve


class StreamedUNet:
    """U-Net, super-resolution and prediction head as one stream.

    `axes` is an order of the spatial axes, the streamed one first. `piece` is about the number of
    voxels of a feature map that are computed at once: enough to occupy the device. The first
    convolution takes and computes float32 whatever the dtype: it is a small part of the arithmetic,
    and with it in bfloat16 the error of the whole would be twice as large (docs/engine.md).
    """

    def __init__(
        self,
        model: nn.Module,
        shapes: UNetShapes,
        axes: Sequence[int],
        dtype: torch.dtype,
        device: torch.device,
        piece: int,
    ) -> None:
        builder = _Builder(shapes, tuple(axes), dtype, device, piece)
        unet, tails, head = _parts(model)
        self._levels = builder.level(unet, 0)
        self._tails = builder.tails(tails)
        self._head = builder.head(head)

    def reset(self) -> None:
        """Begin anew."""
        self._levels.reset()
        for part in self._tails:
            part.reset()
        self._head.reset()

    def push(self, planes: torch.Tensor, last: bool) -> Iterator[list[Planes]]:
        """Planes `[D, *plane, C]` of the input in, those of the output out, for each head.

        They come piece by piece; None where a piece gives no planes yet. With `last` no more will
        come. Planes beyond the output of a whole pass may come out behind it: they are to be
        ignored.
        """
        for heads in self._levels.push(planes, last):
            yield from self._finished(heads, self._tails)
        if last:
            yield from self._flushed(self._tails)

    def _finished(self, heads: list[Planes], tails: Sequence[Tail]) -> Iterator[list[Planes]]:
        """The rest of the way; there is super-resolution only behind a single head."""
        if not tails:
            yield [self._head.push(planes) for planes in heads]
            return
        (planes,) = heads
        for part in tails[0].push(planes, False):
            yield from self._finished([part], tails[1:])

    def _flushed(self, tails: Sequence[Tail]) -> Iterator[list[Planes]]:
        """What was waiting for planes that will not come."""
        for number, part in enumerate(tails):
            for planes in part.push(None, True):
                yield from self._finished([planes], tails[number + 1 :])


def _parts(model: nn.Module) -> tuple[CNNectomeUNetModule, list[nn.Module], nn.Module | None]:
    """The U-Net, the layers of super-resolution, and the prediction head's convolution."""
    head = getattr(model, "prediction_head", None)
    body = getattr(model, "architecture", model)
    body = getattr(body, "unet", body)
    layers = list(body) if isinstance(body, nn.Sequential) else [body]
    unet = layers[0]
    assert isinstance(unet, CNNectomeUNetModule)
    return unet, layers[1:], None if isinstance(head, nn.Identity) else head


class _Builder:
    def __init__(
        self,
        shapes: UNetShapes,
        axes: tuple[int, ...],
        dtype: torch.dtype,
        device: torch.device,
        piece: int,
    ) -> None:
        self._piece = piece
        self._shapes = shapes
        self._axes = axes
        self._dtype = dtype
        self._device = device

    def _convolution(self, weights: Weights) -> Convolution:
        return Convolution(weights, self._dtype, self._device)

    def _chain(self, weights: Sequence[Weights]) -> Chain:
        return Chain([Convolve(self._convolution(each)) for each in weights])

    def _factor(self, factor: Sequence[int]) -> tuple[int, ...]:
        return tuple(factor[axis] for axis in self._axes)

    def level(self, unet: CNNectomeUNetModule, number: int) -> Level:
        left = self._left(folded(cast(ConvPass, unet.l_conv[number]), self._axes), number)
        if number == unet.num_levels - 1:
            return Level(left, (), None, None, self._piece)
        pool = Pool(self._factor(cast(Downsample, unet.l_down[number]).downsample_factor))
        heads = [
            self._right(number, cast(nn.ModuleList, up)[number], cast(nn.ModuleList, conv)[number])
            for up, conv in zip(unet.r_up, unet.r_conv, strict=True)
        ]
        return Level(left, heads, pool, self.level(unet, number + 1), self._piece)

    def _left(self, weights: Sequence[Weights], number: int) -> Chain:
        if number:
            return self._chain(weights)
        first, *rest = weights
        exact = Convolution(first, torch.float32, self._device, gives=self._dtype)
        return Chain([Convolve(exact), *(Convolve(self._convolution(each)) for each in rest)])

    def _right(self, number: int, up: nn.Module, conv_pass: nn.Module) -> Right:
        first, *rest = folded(cast(ConvPass, conv_pass), self._axes)
        factor = self._factor(self._shapes.downsample_factors[number])
        channels_up = _out_channels(cast(Upsample, up))
        channels_left = first.kernel.shape[1] - channels_up
        left = Weights(first.kernel[:, :channels_left], first.bias, first.activation)
        upper = Weights(first.kernel[:, channels_left:], torch.zeros_like(first.bias), None)
        point, stage = self._upsampling(cast(Upsample, up), upper, factor)
        crops = [self._shapes.axes[axis].crops(number) for axis in self._axes]
        join = Join(self._convolution(left), stage, crops)
        return Right(point, join, self._chain(rest))

    def _upsampling(
        self, up: Upsample, after: Weights, factor: Sequence[int]
    ) -> tuple[Convolution | None, UpsampledConvolve | TransposedConvolve]:
        """Upsampling and the convolution after it; and what comes before, at low resolution."""
        layers = list(up.up) if isinstance(up.up, nn.Sequential) else [up.up]
        if isinstance(layers[0], (nn.ConvTranspose2d, nn.ConvTranspose3d)):
            activation = layers[1] if len(layers) > 1 else None
            spread = self._convolution(self._spread(layers[0], activation))
            convolve = Convolve(self._convolution(after))
            return None, TransposedConvolve(spread, factor, convolve)
        return self._point(layers), UpsampledConvolve(after, factor, self._dtype, self._device)

    def _point(self, layers: Sequence[nn.Module]) -> Convolution:
        """The 1x1 convolution behind an upsampling by repetition: before it, it is the same."""
        activation = layers[2] if len(layers) > 2 else None
        return self._convolution(trained(layers[1], self._axes, activation))

    def _spread(self, layer: nn.Module, activation: nn.Module | None) -> Weights:
        """A transposed convolution of equal kernel and stride as one of 1 with many channels."""
        assert isinstance(layer, (nn.ConvTranspose2d, nn.ConvTranspose3d))
        kernel = reorder(layer.weight.detach().float(), self._axes)
        channels_in, channels_out, *factor = kernel.shape
        order = (*range(2, kernel.dim()), 1, 0)
        kernel = kernel.permute(order).reshape(-1, channels_in, *[1] * len(factor))
        copies = kernel.shape[0] // channels_out
        bias = layer.bias
        bias = kernel.new_zeros(channels_out) if bias is None else bias.detach().float()
        return Weights(kernel, bias.repeat(copies), activation)

    def tails(self, layers: Sequence[nn.Module]) -> list[Tail]:
        parts = []
        for up, conv_pass, factor in zip(
            layers[::2], layers[1::2], self._shapes.upsample_factors, strict=True
        ):
            first, *rest = folded(cast(ConvPass, conv_pass), self._axes)
            stage = UpsampledConvolve(first, self._factor(factor), self._dtype, self._device)
            point = self._point(list(cast(nn.Sequential, cast(Upsample, up).up)))
            parts.append(Tail(point, stage, self._chain(rest), self._piece // prod(factor)))
        return parts

    def head(self, layer: nn.Module | None) -> Chain:
        """The prediction head; there is one only behind a single right side."""
        return self._chain([] if layer is None else [trained(layer, self._axes)])


def _out_channels(up: Upsample) -> int:
    """Channels that an upsampling gives."""
    layers = list(up.up) if isinstance(up.up, nn.Sequential) else [up.up]
    convolutions = [layer for layer in layers if hasattr(layer, "out_channels")]
    return int(cast(int, convolutions[0].out_channels))
