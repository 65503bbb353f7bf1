"""Whether stored decisions (`--postprocess`) follow from values that are computed again."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from blockwise_predict.config.postprocess import Postprocess
from blockwise_predict.plan.model import Plan

Floats = NDArray[np.float64]


def with_values(plan: Plan) -> Plan:
    """The plan, with the values that decisions are made on instead of the decisions."""
    arrays = tuple(
        array
        if array.postprocess is None
        else array.model_copy(update={"postprocess": None, "dtype": "float32"})
        for array in plan.output.arrays
    )
    return plan.model_copy(update={"output": plan.output.model_copy(update={"arrays": arrays})})


def decision_problem(
    rule: Postprocess, stored: Floats, values: Floats, tolerance: float
) -> str | None:
    """Which decisions `stored` do not follow from `values` [K, *spatial]; None if all do.

    Each of the values may be wrong by `tolerance`.
    """
    if rule.kind == "argmax":
        expected, contestable = _argmax(stored, values, tolerance)
    else:
        expected, contestable = _threshold(stored, values, rule.threshold, tolerance)
    different = stored != expected
    wrong = int((different & ~contestable).sum())
    if not wrong:
        return None
    return (
        f"computed again, {different.sum()} of {stored.size} voxels have another value of "
        f"{rule}, {wrong} of them where the network's values leave no doubt (they may differ by "
        f"{tolerance:.3g})"
    )


def _threshold(
    stored: Floats, values: Floats, threshold: float, tolerance: float
) -> tuple[Floats, NDArray[np.bool_]]:
    """The mask of the values, and where they are so close to the threshold that it may differ."""
    exact = float(np.float32(threshold))
    close = np.abs(values - exact) <= tolerance
    return (values >= exact).astype(np.float64), close & (stored <= 1)


def _argmax(stored: Floats, values: Floats, tolerance: float) -> tuple[Floats, NDArray[np.bool_]]:
    """The labels of the values, and where the channel that is stored may be the largest as well."""
    numbers = np.where(np.isnan(values), -np.inf, values)
    labels = numbers.argmax(axis=0, keepdims=True)
    possible = stored < len(values)
    chosen = np.where(possible, stored, 0).astype(np.intp)
    largest, own = (np.take_along_axis(numbers, index, axis=0) for index in (labels, chosen))
    with np.errstate(invalid="ignore"):
        contestable = possible & (largest - own <= 2 * tolerance)
    return labels.astype(np.float64), contestable
