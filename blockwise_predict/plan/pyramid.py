"""The plan of a pyramid: which levels are made of which arrays, and their blocks."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from math import prod
from typing import Self

from pydantic import Field, model_validator

from blockwise_predict.io.downsampled import Method
from blockwise_predict.plan.parts import Model

Box = tuple[tuple[int, ...], tuple[int, ...]]
"""The begin and end of a block, in voxels of its array."""


class PlannedLevel(Model):
    """A level at `path`, each voxel of which is made from `factors` voxels of the array `below`.

    `shape` and `block_shape` are in voxels of the level. `build` tells the array that was created
    for it from another one that was there before.
    """

    path: str
    below: str
    build: str
    method: Method
    factors: tuple[int, ...]
    shape: tuple[int, ...]
    block_shape: tuple[int, ...]

    @model_validator(mode="after")
    def _axes_agree(self) -> Self:
        for sizes in (self.factors, self.shape, self.block_shape):
            if len(sizes) != len(self.shape) or min(sizes, default=0) < 1:
                raise ValueError(f"{sizes} is not one positive size per axis of {self.shape}")
        return self

    @property
    def blocks_per_axis(self) -> tuple[int, ...]:
        """Shape of the grid of blocks."""
        return tuple(-(-n // b) for n, b in zip(self.shape, self.block_shape, strict=True))

    @property
    def num_blocks(self) -> int:
        """Number of blocks."""
        return prod(self.blocks_per_axis)

    def box(self, number: int) -> Box:
        """The block with a number (in C order), cut at the level's end."""
        index = []
        for count in reversed(self.blocks_per_axis):
            number, position = divmod(number, count)
            index.append(position)
        begin = tuple(i * b for i, b in zip(index[::-1], self.block_shape, strict=True))
        sizes = zip(begin, self.block_shape, self.shape, strict=True)
        return begin, tuple(min(b + edge, n) for b, edge, n in sizes)


class PyramidPlan(Model):
    """Levels in the order in which they are made; their blocks are numbered on through all levels.

    A worker makes `slots` blocks at a time, unless it is told otherwise.
    """

    version: str
    levels: tuple[PlannedLevel, ...] = Field(min_length=1)
    slots: int = Field(ge=1)

    @property
    def ranges(self) -> list[range]:
        """The numbers of each level's blocks."""
        ends = list(accumulate(level.num_blocks for level in self.levels))
        return [range(begin, end) for begin, end in zip([0, *ends], ends, strict=False)]

    @property
    def num_blocks(self) -> int:
        """Number of blocks of all levels."""
        return sum(level.num_blocks for level in self.levels)

    def place(self, number: int) -> tuple[PlannedLevel, Box]:
        """The level and the box of a block."""
        ranges = self.ranges
        found = bisect_right([blocks.start for blocks in ranges], number) - 1
        return self.levels[found], self.levels[found].box(number - ranges[found].start)

    def where(self, number: int) -> str:
        """In words for the user, where a block is."""
        level, (begin, end) = self.place(number)
        voxels = ",".join(f"{b}:{e}" for b, e in zip(begin, end, strict=True))
        return f"voxels [{voxels}] of {level.path}"
