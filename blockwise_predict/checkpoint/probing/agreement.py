"""A last check over all axes: passes over tiles that differ in position and shape, compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch

from blockwise_predict.architectures.interface import Shape
from blockwise_predict.checkpoint.probing.content import random_content
from blockwise_predict.checkpoint.probing.shapes import ProbedShapes
from blockwise_predict.checkpoint.probing.subject import Subject


class _Pair(NamedTuple):
    """Two tiles: usable periods of output beyond one, the second one's begin in periods, a seed."""

    first: Shape
    second: Shape
    shift: Shape
    seed: int


_PAIRS = (
    _Pair((1, 2, 1), (2, 1, 3), (1, 1, 1), seed=11),
    _Pair((2, 1, 2), (2, 3, 1), (0, 1, 1), seed=12),
)


@dataclass(frozen=True)
class Agreement:
    """Whether two tiles have the same values where both provide an output voxel.

    inexact: evidence that they have not. compared: whether any two tiles could be compared.
    """

    compared: bool
    inexact: str | None = None


def agreement(subject: Subject, shapes: ProbedShapes) -> Agreement:
    """Compare pairs of tiles, as far as they fit into the memory and overlap."""
    found = [_comparison(subject, shapes, pair) for pair in _PAIRS]
    compared = [each for each in found if each.compared]
    return next((each for each in compared if each.inexact), Agreement(bool(compared)))


def _comparison(subject: Subject, shapes: ProbedShapes, pair: _Pair) -> Agreement:
    first, second = _tile(shapes, pair.first), _tile(shapes, pair.second)
    shift = tuple(n * p for n, p in zip(pair.shift, shapes.period, strict=False))
    if not (subject.affordable(first) and subject.affordable(second)):
        return Agreement(compared=False)
    extent = tuple(max(a, k + b) for a, b, k in zip(first, second, shift, strict=True))
    content = random_content(subject.channels, extent, pair.seed)
    one = _usable(shapes, subject.run(content[_window((0,) * len(shift), first)]))
    other = _usable(shapes, subject.run(content[_window(shift, second)]))
    moved = tuple(k * s for k, s in zip(shift, shapes.scale, strict=True))
    common = tuple(
        min(a - k, b) for a, b, k in zip(one.shape[1:], other.shape[1:], moved, strict=True)
    )
    if min(common) < 1:
        return Agreement(compared=False)
    apart = (one[_window(moved, common)] - other[_window((0,) * len(shift), common)]).abs().max()
    if float(apart) <= subject.tolerance(one):
        return Agreement(compared=True)
    return Agreement(
        True,
        f"the same voxels differ by {float(apart):.2g} between tiles of {first} and of {second} "
        f"input voxels, {shift} voxels apart.",
    )


def _usable(shapes: ProbedShapes, output: torch.Tensor) -> torch.Tensor:
    """The part of a pass's output that does not depend on the tile's edges."""
    margins = [axis.margin for axis in shapes.axes]
    begin = tuple(low for low, _ in margins)
    size = tuple(n - low - high for n, (low, high) in zip(output.shape[1:], margins, strict=True))
    return output[_window(begin, size)]


def _window(begin: Shape, size: Shape) -> tuple[slice, ...]:
    """The index of a box in `[channels, *spatial]`."""
    return (slice(None), *(slice(b, b + n) for b, n in zip(begin, size, strict=True)))


def _tile(shapes: ProbedShapes, more: Shape) -> Shape:
    """A valid tile with more than one period of usable output along each axis."""
    wanted = [
        -(-(low + high + (1 + extra) * period * scale) // scale)
        for (low, high), period, scale, extra in zip(
            shapes.lost, shapes.period, shapes.scale, more, strict=False
        )
    ]
    return shapes.valid_input_shape(wanted, "up")
