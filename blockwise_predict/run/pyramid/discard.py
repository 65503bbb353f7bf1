"""Removing the levels of an output whose values are about to change."""

from __future__ import annotations

from collections.abc import Callable

from blockwise_predict.io.downsampled import delete_levels
from blockwise_predict.plan.model import Plan


def discard_levels(plan: Plan, tell: Callable[[str], None]) -> None:
    """Remove the levels of a plan's output, since blocks of it are to be computed."""
    for array in plan.output.arrays:
        if delete_levels(array.path):
            tell(f"The levels of {array.path} are removed, since blocks of it are computed.")
