"""Flips and permutations of a grid's axes: the symmetries of test-time augmentation."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from math import factorial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


@dataclass(frozen=True)
class Symmetry:
    """Flips of some axes, followed by a permutation.

    permutation: axis i of the transformed array is axis `permutation[i]` of the original.
    flipped: for each axis of the original, whether it is reversed.
    """

    permutation: tuple[int, ...]
    flipped: tuple[bool, ...]

    @property
    def is_identity(self) -> bool:
        """Whether it leaves every array as it is."""
        return not any(self.flipped) and not self.permutes

    @property
    def permutes(self) -> bool:
        """Whether axes change places."""
        return self.permutation != tuple(range(len(self.permutation)))

    def apply(self, array: NDArray[np.generic]) -> NDArray[np.generic]:
        """The transformed `[C, *spatial]`, a view."""
        steps = (slice(None, None, -1 if flip else None) for flip in self.flipped)
        return array[(slice(None), *steps)].transpose(0, *(axis + 1 for axis in self.permutation))

    def original_axes(self, axes: Sequence[int]) -> tuple[int, ...]:
        """The original's axes that axes of the transformed array are."""
        return tuple(self.permutation[axis] for axis in axes)

    def transformed_axis(self, axis: int) -> int:
        """The axis of the transformed array that an axis of the original becomes."""
        return self.permutation.index(axis)

    def permuted(self, sizes: Sequence[T]) -> tuple[T, ...]:
        """Something per axis of the original, by the axes of the transformed array."""
        return tuple(sizes[axis] for axis in self.permutation)

    def original_offset(self, offset: Sequence[int]) -> tuple[int, ...]:
        """The offset between two voxels of the original, from that in the transformed array."""
        found = [0] * len(offset)
        for step, axis in zip(offset, self.permutation, strict=True):
            found[axis] = -step if self.flipped[axis] else step
        return tuple(found)


def symmetries(kind: str, dims: int) -> list[Symmetry]:
    """The symmetries of `none`, `flips`, `in-plane` or `all`, the identity first.

    `flips` are of all axes, `in-plane` adds the exchange of the last two axes, `all` every
    permutation. Of four axes the first is time, which stays as it is.
    """
    if kind == "none":
        return [Symmetry(tuple(range(dims)), (False,) * dims)]
    time = dims - min(dims, 3)
    flips = list(itertools.product(*[(False,)] * time, *[(False, True)] * (dims - time)))
    return [Symmetry(order, flip) for order in _orders(kind, dims, time) for flip in flips]


def _orders(kind: str, dims: int, time: int) -> list[tuple[int, ...]]:
    axes = tuple(range(dims))
    if kind == "flips":
        return [axes]
    if kind == "in-plane":
        return [axes, (*axes[:-2], axes[-1], axes[-2])]
    return [(*axes[:time], *order) for order in itertools.permutations(axes[time:])]


def num_symmetries(kind: str, dims: int) -> int:
    """How many `symmetries` there are."""
    if kind == "none":
        return 1
    space = min(dims, 3)
    orders = {"flips": 1, "in-plane": 2, "all": factorial(space)}[kind]
    return int(2**space * orders)
