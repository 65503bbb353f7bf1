"""Whether voxels have the size that a network was trained at."""

from __future__ import annotations

from fractions import Fraction

from blockwise_predict.geometry.grid import Lengths

TOLERANCE = Fraction(1, 1000)
"""Largest relative difference, for sizes that were rounded when they were written (4.2400001)."""


def same_size(one: Lengths, other: Lengths) -> bool:
    """Whether two voxel sizes agree within `TOLERANCE` along the last axes, as many as both have:
    a 2-D network's are those of a slice."""
    shared = min(len(one), len(other))
    pairs = zip(one[len(one) - shared :], other[len(other) - shared :], strict=True)
    return all(abs(a - b) <= TOLERANCE * max(a, b) for a, b in pairs)
