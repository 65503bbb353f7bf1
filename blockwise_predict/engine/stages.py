"""The stages of a streamed network: each takes planes slab by slab and carries over what it needs.

A stage takes planes `[D, *plane, C]` and returns those that can be computed now. Each plane of each
feature map is computed once; planes that later ones depend on are kept as carry-over (a line
buffer). None stands for no planes. Planes arrive in order, without gaps; `reset` clears the state
between tiles.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Protocol

import torch

from blockwise_predict.architectures.sizes import Crops
from blockwise_predict.engine.convolution import Convolution
from blockwise_predict.engine.frames import FrameConvolution

Tensor = torch.Tensor
Planes = Tensor | None


def split_planes(planes: Planes, chunk_voxels: int) -> Iterator[Tensor]:
    """Consecutive chunks of at most `chunk_voxels` voxels each, but at least one plane."""
    if planes is not None:
        count = max(1, chunk_voxels // prod(planes.shape[1:-1]))
        for begin in range(0, len(planes), count):
            yield planes[begin : begin + count]


class PlaneQueue:
    """A first-in, first-out buffer of planes."""

    def __init__(self) -> None:
        self._parts: list[Tensor] = []

    def __len__(self) -> int:
        return sum(len(part) for part in self._parts)

    def append(self, planes: Planes) -> None:
        """Add planes at the end."""
        if planes is not None:
            self._parts.append(planes)

    def drop(self, count: int) -> int:
        """Remove up to `count` planes from the front; returns the number removed."""
        missing = count
        while missing and self._parts:
            first = self._parts[0]
            if len(first) <= missing:
                missing -= len(first)
                del self._parts[0]
            else:
                self._parts[0] = first[missing:]
                missing = 0
        return count - missing

    def peek(self, count: int) -> Tensor:
        """The first `count` planes, contiguous; they stay in the queue."""
        taken, missing = [], count
        for part in self._parts:
            if missing == 0:
                break
            taken.append(part[:missing])
            missing -= len(taken[-1])
        if missing:
            raise ValueError(f"{count} planes requested, but only {count - missing} are queued")
        return taken[0].contiguous() if len(taken) == 1 else torch.cat(taken)

    def pop_all(self) -> Planes:
        """Remove and return all planes, contiguous."""
        taken = self.peek(len(self)) if self._parts else None
        self.clear()
        return taken

    def clear(self) -> None:
        """Remove all planes."""
        self._parts = []


class Layer(Protocol):
    """A valid convolution with everything up to its activation, applied to the planes given."""

    kernel_size: tuple[int, ...]

    def __call__(self, planes: Tensor) -> Tensor:
        """`[D, *plane, C_in]` to `[D - k + 1, *(plane - k + 1), C_out]`."""


class StreamedConvolution:
    """A convolution of k planes; carries over the last k - 1."""

    def __init__(self, convolution: Layer) -> None:
        self._convolution = convolution
        self._carry_over: Planes = None

    def reset(self) -> None:
        """Clear the state between tiles."""
        self._carry_over = None

    def push(self, planes: Planes) -> Planes:
        """Convolve the next planes; returns the output planes they complete."""
        if planes is None:
            return None
        overlap = self._convolution.kernel_size[0] - 1
        window = planes if self._carry_over is None else torch.cat([self._carry_over, planes])
        # A copy, because a view would keep the whole window in memory.
        self._carry_over = window[max(0, len(window) - overlap) :].clone() if overlap else None
        return self._convolution(window) if len(window) > overlap else None


class StreamedMaxPool:
    """Max pooling to `out_dtype`; carries over the planes of an incomplete window."""

    def __init__(self, factor: Sequence[int], out_dtype: torch.dtype) -> None:
        self.factor = tuple(factor)
        self._out_dtype = out_dtype
        self._carry_over = PlaneQueue()

    def reset(self) -> None:
        """Clear the state between tiles."""
        self._carry_over.clear()

    def push(self, planes: Planes) -> Planes:
        """Pool the next planes; returns the output planes they complete."""
        self._carry_over.append(planes)
        whole = len(self._carry_over) // self.factor[0] * self.factor[0]
        if whole == 0:
            return None
        pooled = self._carry_over.peek(whole)
        self._carry_over.drop(whole)
        # Elementwise maxima of strided views: several times faster than torch's max pooling.
        for axis, factor in enumerate(self.factor):
            pooled = _max_along(pooled, axis, factor)
        return pooled.to(self._out_dtype)


def _max_along(planes: Tensor, axis: int, factor: int) -> Tensor:
    before = [slice(None)] * axis
    result = planes[(*before, slice(0, None, factor))]
    for shift in range(1, factor):
        result = torch.maximum(result, planes[(*before, slice(shift, None, factor))])
    return result


class Upsampling(Protocol):
    """Upsampling, together with the following convolution where the two are fused."""

    def reset(self) -> None:
        """Clear the state between tiles."""

    def push(self, planes: Planes, last: bool) -> Planes:
        """Upsample the next planes; returns the full-resolution planes they complete.

        `last` marks the end of the tile. One surplus plane may be returned at the end.
        """


class MergeOp(Protocol):
    """Merges a skip connection with the upsampled map.

    It needs `overlap` planes more of the skip connection than of the upsampled map.
    """

    overlap: int

    def __call__(self, upsampled: Tensor, skip: Tensor) -> Tensor:
        """The merged map; may overwrite `upsampled`."""


class SummedMerge:
    """The first convolution after a skip connection, as the sum of one convolution per input.

    A convolution over concatenated maps is the sum of a convolution over each, so nothing is
    concatenated. That of the upsampled map has been applied where it was upsampled.
    """

    def __init__(self, skip_convolution: Convolution | FrameConvolution) -> None:
        self._skip_convolution = skip_convolution
        self.overlap = skip_convolution.kernel_size[0] - 1

    def __call__(self, upsampled: Tensor, skip: Tensor) -> Tensor:
        """See `MergeOp`."""
        return self._skip_convolution.add_to(upsampled, skip)


class SkipMerge:
    """Merges a level's skip connection with the map upsampled from the level below.

    Skip planes wait here, already cropped, for the upsampled planes, which arrive later. Along the
    streamed axis nothing needs cropping at the far end: planes beyond the other map's end are
    never merged.
    """

    def __init__(self, merge: MergeOp, up: Upsampling, crops: Sequence[Crops]) -> None:
        self._merge = merge
        self._up = up
        self._crops = tuple(crops)
        self._skip = PlaneQueue()
        self._upsampled = PlaneQueue()
        self.reset()

    def reset(self) -> None:
        """Clear the state between tiles."""
        self._up.reset()
        self._skip.clear()
        self._upsampled.clear()
        self._skip_to_crop = self._crops[0].skip_begin
        self._upsampled_to_crop = self._crops[0].up_begin

    def push_skip(self, planes: Planes) -> None:
        """Queue the next planes of the skip connection."""
        if planes is not None:
            cuts = [(crop.skip_begin, crop.skip_total) for crop in self._crops[1:]]
            # A copy, because a view would keep the uncropped planes in memory.
            self._skip.append(_crop(planes, cuts).contiguous())
            self._skip_to_crop -= self._skip.drop(self._skip_to_crop)

    def push(self, below: Planes, last: bool) -> Planes:
        """Upsample the next planes of the level below; returns the merged planes they complete."""
        up = self._up.push(below, last)
        if up is not None:
            cuts = [(crop.up_begin, crop.up_total) for crop in self._crops[1:]]
            self._upsampled.append(_crop(up, cuts))
            self._upsampled_to_crop -= self._upsampled.drop(self._upsampled_to_crop)
        overlap = self._merge.overlap
        count = min(len(self._upsampled), len(self._skip) - overlap)
        if count < 1:
            return None
        upsampled = self._upsampled.peek(count)
        self._upsampled.drop(count)
        skip = self._skip.peek(count + overlap)
        self._skip.drop(count)
        return self._merge(upsampled, skip)


def _crop(planes: Tensor, cuts: Sequence[tuple[int, int]]) -> Tensor:
    """A view cropped in the plane; `cuts` gives (voxels cut before, voxels cut in all) per axis."""
    window = (
        slice(begin, size - (total - begin))
        for (begin, total), size in zip(cuts, planes.shape[1:-1], strict=True)
    )
    return planes[(slice(None), *window)]
