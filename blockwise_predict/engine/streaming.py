"""A CNNectomeUNet that takes its input slab by slab and computes each plane of each map once.

The output equals one forward pass over all planes, to the rounding of the dtype. Memory grows with
the area of a plane, not with the number of planes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import inf

import torch
from torch import nn

from blockwise_predict.architectures import CNNectomeUNetModule, SeparateHeads
from blockwise_predict.engine.builder import Builder, StreamSpec
from blockwise_predict.engine.levels import SuperResolution
from blockwise_predict.engine.overflow import RangeMonitor, max_safe_magnitude
from blockwise_predict.engine.stages import Planes
from blockwise_predict.engine.unfused import UnfusedBuilder


class StreamedUNet:
    """U-Net, super-resolution and prediction head as one stream.

    The first convolution takes and computes float32 in every precision: it is a small part of the
    arithmetic, and in bfloat16 it would double the error of the whole (docs/engine.md).

    A fused stream assumes that all values are finite and stay so. That holds if the input lies
    within `-max_safe_input .. max_safe_input` (NaN if no input is safe) and as long as not
    `exceeded`. Otherwise take a stream with `fused=False`, where NaN and infinity propagate exactly
    as in torch's forward pass.
    """

    def __init__(self, model: nn.Module, spec: StreamSpec, *, fused: bool = True) -> None:
        unet, super_resolution, head = _split_model(model)
        self.spec = spec
        self.max_safe_input = inf
        if fused and spec.device.type != "meta":
            self.max_safe_input = max_safe_magnitude(unet, super_resolution, head, spec.dtype_at(1))
        self._monitor = RangeMonitor(self.max_safe_input)
        builder = (Builder if fused else UnfusedBuilder)(spec, self._monitor)
        self._unet = builder.level(unet, 0)
        self._super_resolution = builder.super_resolution(super_resolution)
        layers = head if isinstance(head, SeparateHeads) else [head] * unet.num_heads
        self._heads = [builder.head(layer) for layer in layers]

    @property
    def exceeded(self) -> bool:
        """Whether values since the last `reset` were too large to trust the latest output."""
        return self._monitor.exceeded

    def reset(self) -> None:
        """Clear the state between tiles."""
        self._monitor.reset()
        self._unet.reset()
        for step in self._super_resolution:
            step.reset()
        for head in self._heads:
            head.reset()

    def push(self, planes: torch.Tensor, last: bool) -> Iterator[list[Planes]]:
        """Process the next slab `[D, *plane, C]`; yields chunks of output planes, one per head.

        An item is None where a chunk completes no output plane. `last` marks the end of the tile.
        Surplus planes may follow the end of a whole pass's output; ignore them.
        """
        for heads in self._unet.push(planes, last):
            yield from self._after_unet(heads, self._super_resolution)
        if last:
            yield from self._flush()

    def _after_unet(
        self, heads: list[Planes], steps: Sequence[SuperResolution]
    ) -> Iterator[list[Planes]]:
        """Apply super-resolution (a network with several heads has none) and the head."""
        if not steps:
            yield [head.push(planes) for head, planes in zip(self._heads, heads, strict=True)]
            return
        (planes,) = heads
        for chunk in steps[0].push(planes, False):
            yield from self._after_unet([chunk], steps[1:])

    def _flush(self) -> Iterator[list[Planes]]:
        """The output of planes that were carried over to the end of the tile."""
        for number, step in enumerate(self._super_resolution):
            for planes in step.push(None, True):
                yield from self._after_unet([planes], self._super_resolution[number + 1 :])


def _split_model(model: nn.Module) -> tuple[CNNectomeUNetModule, list[nn.Module], nn.Module | None]:
    """The U-Net, the layers of super-resolution, and the prediction head's convolutions."""
    head = getattr(model, "prediction_head", None)
    body = getattr(model, "architecture", model)
    body = getattr(body, "unet", body)
    layers = list(body) if isinstance(body, nn.Sequential) else [body]
    unet = layers[0]
    assert isinstance(unet, CNNectomeUNetModule)
    return unet, layers[1:], None if isinstance(head, nn.Identity) else head
