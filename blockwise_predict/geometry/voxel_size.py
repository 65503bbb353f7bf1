"""Whether voxels have the size that a network was trained at."""

from __future__ import annotations

from fractions import Fraction

from blockwise_predict.geometry.grid import Lengths

TOLERANCE = Fraction(1, 1000)
"""Largest relative difference, for sizes that were rounded when they were written (4.2400001)."""


def same_size(one: Lengths, other: Lengths) -> bool:
    """Whether two voxel sizes agree within `TOLERANCE` along the last axes, as many as both have:
    a 2-D network's are those of a slice."""
    return all(abs(a - b) <= TOLERANCE * max(a, b) for a, b in _shared(one, other))


def at_least_as_fine(one: Lengths, other: Lengths) -> bool:
    """Whether voxels of size `one` are along no axis longer than those of the other; within
    `TOLERANCE`, and along the last axes, as `same_size`."""
    return all(a <= b * (1 + TOLERANCE) for a, b in _shared(one, other))


def _shared(one: Lengths, other: Lengths) -> list[tuple[Fraction, Fraction]]:
    """The sizes along the last axes, as many as both have."""
    shared = min(len(one), len(other))
    return list(zip(one[len(one) - shared :], other[len(other) - shared :], strict=True))
