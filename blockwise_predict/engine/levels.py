"""The levels of a streamed U-Net, and its super-resolution steps.

planes -> down convolutions -+------------ skip connection ------------+-> merge -> up convolutions
                             +-> pool -> level below -> upsampling ----+
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

import torch

from blockwise_predict.engine.overflow import RangeMonitor
from blockwise_predict.engine.stages import (
    Layer,
    PlaneQueue,
    Planes,
    SkipMerge,
    StreamedConvolution,
    StreamedMaxPool,
    Upsampling,
    split_planes,
)


class ConvChain:
    """Consecutive convolutions."""

    def __init__(self, convolutions: Sequence[StreamedConvolution]) -> None:
        self._convolutions = tuple(convolutions)

    def reset(self) -> None:
        """Clear the state between tiles."""
        for convolution in self._convolutions:
            convolution.reset()

    def push(self, planes: Planes) -> Planes:
        """Convolve the next planes; returns the output planes they complete."""
        for convolution in self._convolutions:
            planes = convolution.push(planes)
        return planes


class UpPath:
    """The expanding path of a level for one head: upsampling, skip merge, convolutions.

    `pointwise` is the 1x1 convolution of the upsampling, applied at low resolution. Computes in
    `dtype`, whatever the dtype of the level below.
    """

    def __init__(
        self, pointwise: Layer | None, merge: SkipMerge, convs: ConvChain, dtype: torch.dtype
    ) -> None:
        self._dtype = dtype
        self._pointwise = pointwise
        self._merge = merge
        self._convs = convs

    def reset(self) -> None:
        """Clear the state between tiles."""
        self._merge.reset()
        self._convs.reset()

    def push_skip(self, planes: Planes) -> None:
        """Queue the next planes of the skip connection."""
        self._merge.push_skip(planes)

    def push(self, below: Planes, last: bool) -> Planes:
        """Process the next planes of the level below; returns the planes of this level."""
        if below is not None:
            below = below.to(self._dtype)
            below = below if self._pointwise is None else self._pointwise(below)
        return self._convs.push(self._merge.push(below, last))


class Level:
    """A level of the U-Net with all levels below it; the deepest one has only `down_convs`.

    The planes of this level are large, so they are computed in chunks of about `chunk_voxels`
    voxels. The level below has fewer voxels and gets the planes of a whole slab at once. `monitor`
    observes what goes to the level below and what it returns.
    """

    def __init__(
        self,
        down_convs: ConvChain,
        *,
        up_paths: Sequence[UpPath] = (),
        pool: StreamedMaxPool | None = None,
        below: Level | None = None,
        chunk_voxels: int,
        monitor: RangeMonitor,
    ) -> None:
        self._monitor = monitor
        self._chunk_voxels = chunk_voxels
        self._chunk_voxels_below = 1 if pool is None else chunk_voxels // prod(pool.factor)
        self._down_convs = down_convs
        self._up_paths = tuple(up_paths)
        self._pool = pool
        self._below = below

    def reset(self) -> None:
        """Clear the state between tiles."""
        self._down_convs.reset()
        for up_path in self._up_paths:
            up_path.reset()
        if self._pool is not None and self._below is not None:
            self._pool.reset()
            self._below.reset()

    def push(self, planes: Planes, last: bool) -> Iterator[list[Planes]]:
        """Process the next planes; yields chunks of output planes, one item per head."""
        if self._pool is None or self._below is None:
            yield [self._down_convs.push(planes)]
            return
        pooled = PlaneQueue()
        for chunk in split_planes(planes, self._chunk_voxels):
            skip = self._down_convs.push(chunk)
            pooled.append(self._pool.push(skip))
            for up_path in self._up_paths:
                up_path.push_skip(skip)
        slab = pooled.pop_all()
        self._monitor.observe(slab)
        for returned in self._below.push(slab, last):
            for below in returned:
                self._monitor.observe(below)
            # The deepest level is shared by all heads.
            per_head = returned * len(self._up_paths) if len(returned) == 1 else returned
            chunks = [split_planes(below, self._chunk_voxels_below) for below in per_head]
            for chunk_per_head in zip(*chunks, strict=True):
                yield [
                    up_path.push(below, False)
                    for up_path, below in zip(self._up_paths, chunk_per_head, strict=True)
                ]
        if last:
            yield [up_path.push(None, True) for up_path in self._up_paths]


class SuperResolution:
    """A super-resolution step: upsampling and convolutions. `monitor` observes its input.

    `pointwise` is the 1x1 convolution of the upsampling, applied at low resolution.
    """

    def __init__(
        self,
        pointwise: Layer,
        up: Upsampling,
        convs: ConvChain,
        *,
        chunk_voxels: int,
        monitor: RangeMonitor,
    ) -> None:
        self._monitor = monitor
        self._chunk_voxels = chunk_voxels
        self._pointwise = pointwise
        self._up = up
        self._convs = convs

    def reset(self) -> None:
        """Clear the state between tiles."""
        self._up.reset()
        self._convs.reset()

    def push(self, planes: Planes, last: bool) -> Iterator[Planes]:
        """Process the next planes; yields chunks of planes at the higher resolution."""
        self._monitor.observe(planes)
        for chunk in split_planes(planes, self._chunk_voxels):
            yield self._convs.push(self._up.push(self._pointwise(chunk), False))
        if last:
            yield self._convs.push(self._up.push(None, True))
