"""The stages of a stream, built from a trained network and rearranged to be less arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
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
    convolutions,
    folded,
    reorder,
    trained,
)
from blockwise_predict.engine.levels import Chain, Level, Right, Tail
from blockwise_predict.engine.range import RangeWatch
from blockwise_predict.engine.stages import Convolve, Join, Layer, Merge, Pool, Sum, Upsampling
from blockwise_predict.engine.upsampling import Upsampled, UpsampledConvolve


@dataclass(frozen=True)
class Target:
    """What a stream is built for; see `StreamedUNet`. `dtype` is the first level's and that of all
    at full resolution, `deep` that of the levels below it.
    """

    shapes: UNetShapes
    axes: tuple[int, ...]
    dtype: torch.dtype
    deep: torch.dtype
    device: torch.device
    piece: int

    def dtype_of(self, level: int) -> torch.dtype:
        """What a level computes in."""
        return self.deep if level else self.dtype


class Builder:
    """Builds levels, steps of super-resolution and the head; `watch` is to look at their values."""

    def __init__(self, target: Target, watch: RangeWatch) -> None:
        self._target = target
        self._watch = watch

    def level(self, unet: CNNectomeUNetModule, number: int) -> Level:
        """A level and all below it."""
        target = self._target
        left = self._left(cast(ConvPass, unet.l_conv[number]), number)
        if number == unet.num_levels - 1:
            return Level(left, (), None, None, target.piece, self._watch)
        factor = self._factor(cast(Downsample, unet.l_down[number]).downsample_factor)
        pool = Pool(factor, target.dtype_of(number + 1))
        heads = [
            self._right(number, cast(nn.ModuleList, up)[number], cast(nn.ModuleList, conv)[number])
            for up, conv in zip(unet.r_up, unet.r_conv, strict=True)
        ]
        below = self.level(unet, number + 1)
        return Level(left, heads, pool, below, target.piece, self._watch)

    def tails(self, layers: Sequence[nn.Module]) -> list[Tail]:
        """The steps of super-resolution, from their upsampling and their convolutions."""
        parts = []
        target = self._target
        for up, conv_pass, factor in zip(
            layers[::2], layers[1::2], target.shapes.upsample_factors, strict=True
        ):
            weights = convolutions(cast(ConvPass, conv_pass), target.axes)
            point, stage = self._upsampling(
                cast(Upsample, up), weights[0], self._factor(factor), target.dtype
            )
            assert point is not None
            rest = self._chain(self._after_upsampling(weights), target.dtype)
            parts.append(Tail(point, stage, rest, target.piece // prod(factor), self._watch))
        return parts

    def head(self, layer: nn.Module | None) -> Chain:
        """The prediction head; there is one only behind a single right side."""
        weights = [] if layer is None else [trained(layer, self._target.axes)]
        return self._chain(weights, self._target.dtype)

    def _factor(self, factor: Sequence[int]) -> tuple[int, ...]:
        return tuple(factor[axis] for axis in self._target.axes)

    def _chain(self, weights: Sequence[Weights], dtype: torch.dtype) -> Chain:
        return Chain([Convolve(self._layer(each, dtype)) for each in weights])

    def _left(self, conv_pass: ConvPass, number: int) -> Chain:
        weights, dtype = convolutions(conv_pass, self._target.axes), self._target.dtype_of(number)
        if number:
            return self._chain(weights, dtype)
        first, *rest = weights
        layers = [self._layer(first, torch.float32, gives=dtype)]
        return Chain([Convolve(each) for each in (*layers, *(self._layer(w, dtype) for w in rest))])

    def _right(self, number: int, up: nn.Module, conv_pass: nn.Module) -> Right:
        target = self._target
        dtype = target.dtype_of(number)
        weights = convolutions(cast(ConvPass, conv_pass), target.axes)
        factor = self._factor(target.shapes.downsample_factors[number])
        channels_left = weights[0].kernel.shape[1] - _out_channels(cast(Upsample, up))
        left, upper = _halves(weights[0], channels_left)
        point, stage = self._upsampling(cast(Upsample, up), upper, factor, dtype)
        crops = [target.shapes.axes[axis].crops(number) for axis in target.axes]
        join = Join(self._merge(left, dtype), stage, crops)
        return Right(point, join, self._chain(self._after_upsampling(weights), dtype), dtype)

    def _upsampling(
        self, up: Upsample, after: Weights, factor: Sequence[int], dtype: torch.dtype
    ) -> tuple[Layer | None, Upsampling]:
        """Upsampling, with the convolution `after` it; and what comes before, at low resolution."""
        layers = list(up.up) if isinstance(up.up, nn.Sequential) else [up.up]
        if isinstance(layers[0], (nn.ConvTranspose2d, nn.ConvTranspose3d)):
            activation = layers[1] if len(layers) > 1 else None
            spread = self._layer(_spread(layers[0], activation, self._target.axes), dtype)
            return None, self._transposed(spread, after, factor, dtype)
        # The 1x1 convolution behind an upsampling by repetition: before it, it is the same.
        activation = layers[2] if len(layers) > 2 else None
        point = self._layer(trained(layers[1], self._target.axes, activation), dtype)
        return point, self._repeated(after, factor, dtype)

    # What follows is how the arithmetic is rearranged.

    def _layer(
        self, weights: Weights, dtype: torch.dtype, gives: torch.dtype | None = None
    ) -> Layer:
        return Convolution(folded(weights), dtype, self._target.device, gives=gives)

    def _transposed(
        self, spread: Layer, after: Weights, factor: Sequence[int], dtype: torch.dtype
    ) -> Upsampling:
        return Upsampled(spread, factor, Convolve(self._layer(after, dtype)))

    def _repeated(self, after: Weights, factor: Sequence[int], dtype: torch.dtype) -> Upsampling:
        return UpsampledConvolve(folded(after), factor, dtype, self._target.device)

    def _merge(self, left: Weights, dtype: torch.dtype) -> Merge:
        # Elsewhere the values that come in have been small enough.
        watch = self._watch if dtype == torch.float16 else None
        return Sum(Convolution(left, dtype, self._target.device, watch=watch))

    def _after_upsampling(self, weights: Sequence[Weights]) -> Sequence[Weights]:
        """The convolutions that are still to be done behind an upsampling."""
        return weights[1:]


def _halves(weights: Weights, channels_left: int) -> tuple[Weights, Weights]:
    """A convolution over two maps side by side as two, whose sum it is; activation in the first."""
    first = folded(weights)
    left = replace(first, kernel=first.kernel[:, :channels_left])
    upper = Weights(first.kernel[:, channels_left:], torch.zeros_like(first.bias), None)
    return left, upper


def _spread(layer: nn.Module, activation: nn.Module | None, axes: Sequence[int]) -> Weights:
    """A transposed convolution of equal kernel and stride as one of 1 with many channels."""
    assert isinstance(layer, (nn.ConvTranspose2d, nn.ConvTranspose3d))
    kernel = reorder(layer.weight.detach().float(), axes)
    channels_in, channels_out, *factor = kernel.shape
    order = (*range(2, kernel.dim()), 1, 0)
    kernel = kernel.permute(order).reshape(-1, channels_in, *[1] * len(factor))
    copies = kernel.shape[0] // channels_out
    bias = layer.bias
    bias = kernel.new_zeros(channels_out) if bias is None else bias.detach().float()
    return Weights(kernel, bias.repeat(copies), activation)


def _out_channels(up: Upsample) -> int:
    """Channels that an upsampling gives."""
    layers = list(up.up) if isinstance(up.up, nn.Sequential) else [up.up]
    convolutional = [layer for layer in layers if hasattr(layer, "out_channels")]
    return int(cast(int, convolutional[0].out_channels))
