"""Builds the stages of a stream from a trained network, fused where that saves arithmetic."""

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
    UNetShapes,
    Upsample,
)
from blockwise_predict.engine.convolution import (
    ConvWeights,
    conv_pass_weights,
    fold_batch_norm,
    layer_weights,
    permute_spatial,
)
from blockwise_predict.engine.frames import make_convolution
from blockwise_predict.engine.levels import ConvChain, Level, SuperResolution, UpPath
from blockwise_predict.engine.overflow import RangeMonitor
from blockwise_predict.engine.stages import (
    Layer,
    MergeOp,
    SkipMerge,
    StreamedConvolution,
    StreamedMaxPool,
    SummedMerge,
    Upsampling,
)
from blockwise_predict.engine.upsampling import ExplicitUpsampling, FusedUpsampling


@dataclass(frozen=True)
class StreamSpec:
    """What a stream is built for.

    axes: the axes in streaming order, the streamed axis first; time, which cannot be streamed,
        last.
    dtype: of the first level, super-resolution and the head; `deep_dtype` of the levels below the
        first, if it differs.
    chunk_voxels: about the number of voxels of a feature map that are computed at once. Enough to
        occupy the device, few enough to leave memory for the carry-over planes.
    """

    shapes: UNetShapes
    axes: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    chunk_voxels: int
    deep_dtype: torch.dtype | None = None

    def dtype_at(self, level: int) -> torch.dtype:
        """The dtype that a level computes in."""
        return (self.deep_dtype or self.dtype) if level else self.dtype


class Builder:
    """Builds levels, super-resolution steps and the head; `monitor` observes their values."""

    def __init__(self, spec: StreamSpec, monitor: RangeMonitor) -> None:
        self._spec = spec
        self._monitor = monitor

    def level(self, unet: CNNectomeUNetModule, number: int) -> Level:
        """A level with all levels below it."""
        spec = self._spec
        down_convs = self._down_convs(cast(ConvPass, unet.l_conv[number]), number)
        if number == unet.num_levels - 1:
            return Level(down_convs, chunk_voxels=spec.chunk_voxels, monitor=self._monitor)
        factor = self._in_stream_order(spec.shapes.downsample_factors[number])
        return Level(
            down_convs,
            pool=StreamedMaxPool(factor, spec.dtype_at(number + 1)),
            up_paths=[self._up_path(number, unet, head) for head in range(unet.num_heads)],
            below=self.level(unet, number + 1),
            chunk_voxels=spec.chunk_voxels,
            monitor=self._monitor,
        )

    def super_resolution(self, layers: Sequence[nn.Module]) -> list[SuperResolution]:
        """The super-resolution steps; `layers` alternates upsampling and convolutions."""
        steps = []
        spec = self._spec
        for up, conv_pass, factor in zip(
            layers[::2], layers[1::2], spec.shapes.upsample_factors, strict=True
        ):
            weights = conv_pass_weights(cast(ConvPass, conv_pass), spec.axes)
            pointwise, upsampling = self._upsampling(
                cast(Upsample, up), weights[0], self._in_stream_order(factor), spec.dtype
            )
            assert pointwise is not None
            steps.append(
                SuperResolution(
                    pointwise,
                    upsampling,
                    self._chain(self._after_upsampling(weights), spec.dtype),
                    chunk_voxels=spec.chunk_voxels // prod(factor),
                    monitor=self._monitor,
                )
            )
        return steps

    def head(self, layer: nn.Module | None) -> ConvChain:
        """The prediction head's convolution; an empty chain if there is no head."""
        weights = []
        if layer is not None and not isinstance(layer, nn.Identity):
            weights = [layer_weights(layer, self._spec.axes)]
        return self._chain(weights, self._spec.dtype)

    def _in_stream_order(self, factor: Sequence[int]) -> tuple[int, ...]:
        return tuple(factor[axis] for axis in self._spec.axes)

    def _chain(self, weights: Sequence[ConvWeights], dtype: torch.dtype) -> ConvChain:
        return ConvChain([StreamedConvolution(self._layer(each, dtype)) for each in weights])

    def _down_convs(self, conv_pass: ConvPass, number: int) -> ConvChain:
        weights, dtype = conv_pass_weights(conv_pass, self._spec.axes), self._spec.dtype_at(number)
        if number:
            return self._chain(weights, dtype)
        first, *rest = weights
        layers = [self._layer(first, torch.float32, dtype)]
        layers += [self._layer(each, dtype) for each in rest]
        return ConvChain([StreamedConvolution(layer) for layer in layers])

    def _up_path(self, number: int, unet: CNNectomeUNetModule, head: int) -> UpPath:
        spec = self._spec
        dtype = spec.dtype_at(number)
        up, conv_pass = (
            cast(nn.ModuleList, paths[head])[number] for paths in (unet.r_up, unet.r_conv)
        )
        skip = conv_pass_weights(cast(ConvPass, unet.l_conv[number]), spec.axes)[-1]
        weights = conv_pass_weights(cast(ConvPass, conv_pass), spec.axes)
        factor = self._in_stream_order(spec.shapes.downsample_factors[number])
        skip_weights, up_weights = _split_by_input(weights[0], skip_channels=len(skip.kernel))
        pointwise, upsampling = self._upsampling(cast(Upsample, up), up_weights, factor, dtype)
        crops = [spec.shapes.axes[axis].crops(number) for axis in spec.axes]
        merge = SkipMerge(self._merge_op(skip_weights, dtype), upsampling, crops)
        convs = self._chain(self._after_upsampling(weights), dtype)
        return UpPath(pointwise, merge, convs, dtype)

    def _upsampling(
        self, up: Upsample, following: ConvWeights, factor: Sequence[int], dtype: torch.dtype
    ) -> tuple[Layer | None, Upsampling]:
        """The pointwise convolution at low resolution, if any, and the upsampling.

        `following` is the convolution after the upsampling, which may be fused with it.
        """
        layers = list(up.up) if isinstance(up.up, nn.Sequential) else [up.up]
        if isinstance(layers[0], (nn.ConvTranspose2d, nn.ConvTranspose3d)):
            activation = layers[1] if len(layers) > 1 else None
            to_phases = self._layer(_phase_weights(layers[0], activation, self._spec.axes), dtype)
            return None, self._transposed(to_phases, following, factor, dtype)
        if len(layers) == 1:
            return None, self._nearest(following, factor, dtype)
        # A 1x1 convolution commutes with the repetition of voxels that precedes it.
        activation = layers[2] if len(layers) > 2 else None
        pointwise = self._layer(layer_weights(layers[1], self._spec.axes, activation), dtype)
        return pointwise, self._nearest(following, factor, dtype)

    # What is below is fused here, and overridden where nothing may be.

    def _layer(
        self, weights: ConvWeights, dtype: torch.dtype, out_dtype: torch.dtype | None = None
    ) -> Layer:
        weights = fold_batch_norm(weights)
        return make_convolution(weights, dtype, self._spec.device, out_dtype=out_dtype)

    def _transposed(
        self, to_phases: Layer, following: ConvWeights, factor: Sequence[int], dtype: torch.dtype
    ) -> Upsampling:
        convolution = StreamedConvolution(self._layer(following, dtype))
        return ExplicitUpsampling(to_phases, factor, convolution)

    def _nearest(
        self, following: ConvWeights, factor: Sequence[int], dtype: torch.dtype
    ) -> Upsampling:
        return FusedUpsampling(fold_batch_norm(following), factor, dtype, self._spec.device)

    def _merge_op(self, skip_weights: ConvWeights, dtype: torch.dtype) -> MergeOp:
        # In the wider dtypes, bounding the inputs of a level is enough.
        monitor = self._monitor if dtype == torch.float16 else None
        device = self._spec.device
        return SummedMerge(make_convolution(skip_weights, dtype, device, monitor=monitor))

    def _after_upsampling(self, weights: Sequence[ConvWeights]) -> Sequence[ConvWeights]:
        """The convolutions that remain after upsampling and merge."""
        return weights[1:]


def _split_by_input(weights: ConvWeights, skip_channels: int) -> tuple[ConvWeights, ConvWeights]:
    """Split a convolution over concatenated maps into two whose sum it is.

    The first, over the skip connection, has the bias and the activation.
    """
    whole = fold_batch_norm(weights)
    skip = replace(whole, kernel=whole.kernel[:, :skip_channels])
    up = ConvWeights(whole.kernel[:, skip_channels:], torch.zeros_like(whole.bias), None)
    return skip, up


def _phase_weights(
    layer: nn.Module, activation: nn.Module | None, axes: Sequence[int]
) -> ConvWeights:
    """A transposed convolution with kernel equal to stride, as a 1x1 convolution to all phases."""
    assert isinstance(layer, (nn.ConvTranspose2d, nn.ConvTranspose3d))
    kernel = permute_spatial(layer.weight.detach().float(), axes)
    channels_in, channels_out, *factor = kernel.shape
    order = (*range(2, kernel.dim()), 1, 0)
    kernel = kernel.permute(order).reshape(-1, channels_in, *[1] * len(factor))
    phases = kernel.shape[0] // channels_out
    bias = layer.bias
    bias = kernel.new_zeros(channels_out) if bias is None else bias.detach().float()
    return ConvWeights(kernel, bias.repeat(phases), activation)
