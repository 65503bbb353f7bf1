"""Which stored masks and labels `predict verify --sample` accepts."""

from __future__ import annotations

import numpy as np
import pytest

from blockwise_predict.config.postprocess import parse_postprocess
from blockwise_predict.run.verification.decisions import decision_problem

NAN = float("nan")


def problem(rule: str, values: list[list[float]], stored: list[float]) -> str | None:
    """What is wrong with stored voxels of these values, a list for each channel."""
    one = rule == "argmax"
    shape = (1 if one else len(values), len(values[0]))
    return decision_problem(
        parse_postprocess(rule), np.reshape(stored, shape).astype(float), np.array(values), 0.01
    )


@pytest.mark.parametrize(
    ("values", "stored", "is_right"),
    [
        ([0.49, 0.52, 0.505, 0.495, NAN], [0, 1, 0, 1, 0], True),
        ([0.47, 0.52, 0.505], [1, 1, 0], False),
        ([0.47, 0.52, 0.505], [0, 0, 0], False),
        ([0.505], [2], False),
        ([NAN], [1], False),
    ],
)
def test_masks_may_differ_only_near_the_threshold(
    values: list[float], stored: list[float], is_right: bool
) -> None:
    assert (problem("threshold:0.5", [values], stored) is None) == is_right


@pytest.mark.parametrize(
    ("stored", "is_right"),
    [([0, 1, 2, 0], True), ([1, 1, 2, 0], True), ([2, 1, 2, 0], False), ([0, 1, 3, 0], False)],
)
def test_labels_may_differ_only_between_close_channels(stored: list[float], is_right: bool) -> None:
    values = [[0.50, 0.1, NAN, NAN], [0.49, 0.7, 0.1, NAN], [0.47, 0.3, 0.2, NAN]]
    assert (problem("argmax", values, stored) is None) == is_right


def test_the_difference_is_counted() -> None:
    told = problem("argmax", [[1, 1, 1], [0, 0, 0.99]], [1, 0, 1])
    assert told is not None
    assert "2 of 3 voxels have another value of argmax, 1 of them" in told
