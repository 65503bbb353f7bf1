"""What a network is made of when planes of its input come one slab after another.

Every stage takes planes `[D, *plane, C]` and gives those that can be computed now: each plane of
each feature map is computed once, and what later planes need is kept. None stands for no planes.
The planes come in order, without gaps; `reset` begins anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Protocol

import torch

from blockwise_predict.architectures.sizes import Crops
from blockwise_predict.engine.convolution import Convolution

Tensor = torch.Tensor
Planes = Tensor | None


def pieces(planes: Planes, voxels: int) -> Iterator[Tensor]:
    """Planes in parts of at most `voxels` voxels, but whole planes."""
    if planes is not None:
        count = max(1, voxels // prod(planes.shape[1:-1]))
        for begin in range(0, len(planes), count):
            yield planes[begin : begin + count]


class Queue:
    """Planes that wait, first in, first out."""

    def __init__(self) -> None:
        self._parts: list[Tensor] = []

    def __len__(self) -> int:
        return sum(len(part) for part in self._parts)

    def append(self, planes: Planes) -> None:
        """Planes that come behind those that are there."""
        if planes is not None:
            self._parts.append(planes)

    def drop(self, count: int) -> int:
        """Remove the first `count` planes, or all if there are fewer; returns how many."""
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

    def first(self, count: int) -> Tensor:
        """The first `count` planes, contiguous; they stay."""
        taken, missing = [], count
        for part in self._parts:
            if missing == 0:
                break
            taken.append(part[:missing])
            missing -= len(taken[-1])
        if missing:
            raise ValueError(f"{count} planes wanted, {count - missing} are there")
        return taken[0].contiguous() if len(taken) == 1 else torch.cat(taken)

    def take(self) -> Planes:
        """All planes, contiguous; none stay."""
        taken = self.first(len(self)) if self._parts else None
        self.clear()
        return taken

    def clear(self) -> None:
        """Forget all planes."""
        self._parts = []


class Layer(Protocol):
    """A valid convolution of `size` with all that follows it, over planes that are there."""

    size: tuple[int, ...]

    def __call__(self, planes: Tensor) -> Tensor:
        """`[D, *plane, C_in]` to `[D - k + 1, *(plane - k + 1), C_out]`."""


class Convolve:
    """A convolution; keeps the last k - 1 planes."""

    def __init__(self, convolution: Layer) -> None:
        self._convolution = convolution
        self._kept: Planes = None

    def reset(self) -> None:
        """Begin anew."""
        self._kept = None

    def push(self, planes: Planes) -> Planes:
        """Planes in, planes out."""
        if planes is None:
            return None
        overlap = self._convolution.size[0] - 1
        window = planes if self._kept is None else torch.cat([self._kept, planes])
        # A copy, or the few planes would keep the whole window in memory.
        self._kept = window[max(0, len(window) - overlap) :].clone() if overlap else None
        return self._convolution(window) if len(window) > overlap else None


class Pool:
    """Max pooling; keeps what is not yet a whole window. What comes out is of the dtype `gives`."""

    def __init__(self, factor: Sequence[int], gives: torch.dtype) -> None:
        self.factor = tuple(factor)
        self._gives = gives
        self._waiting = Queue()

    def reset(self) -> None:
        """Begin anew."""
        self._waiting.clear()

    def push(self, planes: Planes) -> Planes:
        """Planes in, planes out."""
        self._waiting.append(planes)
        whole = len(self._waiting) // self.factor[0] * self.factor[0]
        if whole == 0:
            return None
        pooled = self._waiting.first(whole)
        self._waiting.drop(whole)
        # Elementwise maxima of shifted views: several times faster than torch's max pooling.
        for axis, factor in enumerate(self.factor):
            pooled = _pooled(pooled, axis, factor)
        return pooled.to(self._gives)


def _pooled(planes: Tensor, axis: int, factor: int) -> Tensor:
    every = [slice(None)] * axis
    result = planes[(*every, slice(0, None, factor))]
    for shift in range(1, factor):
        result = torch.maximum(result, planes[(*every, slice(shift, None, factor))])
    return result


class Upsampling(Protocol):
    """Upsampling, and the convolution after it where the two are one."""

    def reset(self) -> None:
        """Begin anew."""

    def push(self, planes: Planes, last: bool) -> Planes:
        """Planes at low resolution in, planes at full resolution out.

        With `last` no more planes will come. A plane that is one too many may come out at the end.
        """


class Merge(Protocol):
    """Puts a skip connection's planes and those of the upsampled map together.

    It takes `overlap` planes more of the skip connection than of the other.
    """

    overlap: int

    def __call__(self, upsampled: Tensor, skip: Tensor) -> Tensor:
        """One map of the two; `upsampled` is not used any more."""


class Sum:
    """The first convolution over both maps side by side, as the sum of one over each.

    So nothing is concatenated. Where the upsampled map comes from, its convolution has been done.
    """

    def __init__(self, convolution: Convolution) -> None:
        self._convolution = convolution
        self.overlap = convolution.size[0] - 1

    def __call__(self, upsampled: Tensor, skip: Tensor) -> Tensor:
        """See `Merge`."""
        return self._convolution.add_to(upsampled, skip)


class Join:
    """A skip connection and the map that is upsampled from the level below.

    The skip connection's planes wait here, already cropped, for those that come the longer way.
    What is cropped behind along the streamed axis lies beyond the end of the others.
    """

    def __init__(self, merge: Merge, up: Upsampling, crops: Sequence[Crops]) -> None:
        self._merge = merge
        self._up = up
        self._crops = tuple(crops)
        self._skip = Queue()
        self._total = Queue()
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self._up.reset()
        self._skip.clear()
        self._total.clear()
        self._drop_left = self._crops[0].left_begin
        self._drop_up = self._crops[0].up_begin

    def wait(self, left: Planes) -> None:
        """Planes of the skip connection in."""
        if left is not None:
            cuts = [(crop.left_begin, crop.left_total) for crop in self._crops[1:]]
            # A copy, or the whole plane would wait in memory.
            self._skip.append(_cropped(left, cuts).contiguous())
            self._drop_left -= self._skip.drop(self._drop_left)

    def push(self, below: Planes, last: bool) -> Planes:
        """Planes of the level below in, merged planes out."""
        up = self._up.push(below, last)
        if up is not None:
            cuts = [(crop.up_begin, crop.up_total) for crop in self._crops[1:]]
            self._total.append(_cropped(up, cuts))
            self._drop_up -= self._total.drop(self._drop_up)
        overlap = self._merge.overlap
        count = min(len(self._total), len(self._skip) - overlap)
        if count < 1:
            return None
        total = self._total.first(count)
        self._total.drop(count)
        skip = self._skip.first(count + overlap)
        self._skip.drop(count)
        return self._merge(total, skip)


def _cropped(planes: Tensor, cuts: Sequence[tuple[int, int]]) -> Tensor:
    """A view without the voxels cut off in the plane: for each axis those before, and in total."""
    window = (
        slice(begin, size - (total - begin))
        for (begin, total), size in zip(cuts, planes.shape[1:-1], strict=True)
    )
    return planes[(slice(None), *window)]
