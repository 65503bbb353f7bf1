"""The parts of a streamed U-Net: chains of convolutions, its levels, and super-resolution.

planes -> left convolutions -+--------- skip connection, waits ---------+-> join -> convolutions
                             +-> pool -> level below -> upsampled -------+
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

import torch

from blockwise_predict.engine.range import RangeWatch
from blockwise_predict.engine.stages import (
    Convolve,
    Join,
    Layer,
    Planes,
    Pool,
    Queue,
    Upsampling,
    pieces,
)


class Chain:
    """Convolutions one after another."""

    def __init__(self, stages: Sequence[Convolve]) -> None:
        self._stages = tuple(stages)

    def reset(self) -> None:
        """Begin anew."""
        for stage in self._stages:
            stage.reset()

    def push(self, planes: Planes) -> Planes:
        """Planes in, planes out."""
        for stage in self._stages:
            planes = stage.push(planes)
        return planes


class Right:
    """The right side of a level, for one head; in `dtype`, whatever comes from below."""

    def __init__(self, point: Layer | None, join: Join, rest: Chain, dtype: torch.dtype) -> None:
        self._dtype = dtype
        self._point = point
        self._join = join
        self._rest = rest

    def reset(self) -> None:
        """Begin anew."""
        self._join.reset()
        self._rest.reset()

    def wait(self, left: Planes) -> None:
        """Planes of the left side in."""
        self._join.wait(left)

    def push(self, below: Planes, last: bool) -> Planes:
        """Planes of the level below in, planes of this level out."""
        if below is not None:
            below = below.to(self._dtype)
            below = below if self._point is None else self._point(below)
        return self._rest.push(self._join.push(below, last))


class Level:
    """A level and all below it; gives planes for each head.

    The level below gets all planes of a slab at once, since its own are few. Here, where planes are
    large, the work is done in pieces of about `piece` voxels, so that little is in memory. `watch`
    looks at what goes to the level below, and at what comes back.
    """

    def __init__(
        self,
        left: Chain,
        heads: Sequence[Right],
        pool: Pool | None,
        below: Level | None,
        piece: int,
        watch: RangeWatch,
    ) -> None:
        self._watch = watch
        self._piece = piece
        self._piece_below = 1 if pool is None else piece // prod(pool.factor)
        self._left = left
        self._heads = tuple(heads)
        self._pool = pool
        self._below = below

    def reset(self) -> None:
        """Begin anew."""
        self._left.reset()
        for head in self._heads:
            head.reset()
        if self._pool is not None and self._below is not None:
            self._pool.reset()
            self._below.reset()

    def push(self, planes: Planes, last: bool) -> Iterator[list[Planes]]:
        """Planes in, for each head planes out, piece by piece."""
        if self._pool is None or self._below is None:
            yield [self._left.push(planes)]
            return
        pooled = Queue()
        for piece in pieces(planes, self._piece):
            left = self._left.push(piece)
            pooled.append(self._pool.push(left))
            for head in self._heads:
                head.wait(left)
        given = pooled.take()
        self._watch.look(given)
        for deeper in self._below.push(given, last):
            for below in deeper:
                self._watch.look(below)
            # The deepest level is the same for all heads.
            every = deeper * len(self._heads) if len(deeper) == 1 else deeper
            parts = [pieces(below, self._piece_below) for below in every]
            for part in zip(*parts, strict=True):
                yield [
                    head.push(below, False) for head, below in zip(self._heads, part, strict=True)
                ]
        if last:
            yield [head.push(None, True) for head in self._heads]


class Tail:
    """A step of super-resolution: upsampling and convolutions. `watch` looks at what comes in."""

    def __init__(
        self, point: Layer, up: Upsampling, rest: Chain, piece: int, watch: RangeWatch
    ) -> None:
        self._watch = watch
        self._piece = piece
        self._point = point
        self._up = up
        self._rest = rest

    def reset(self) -> None:
        """Begin anew."""
        self._up.reset()
        self._rest.reset()

    def push(self, planes: Planes, last: bool) -> Iterator[Planes]:
        """Planes in, planes of higher resolution out, piece by piece."""
        self._watch.look(planes)
        for part in pieces(planes, self._piece):
            yield self._rest.push(self._up.push(self._point(part), False))
        if last:
            yield self._rest.push(self._up.push(None, True))
