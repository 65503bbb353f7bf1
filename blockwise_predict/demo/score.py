"""Measures of how well scores separate two classes of voxels, in plain numpy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Score:
    """Three common summaries; 1 is perfect for all of them."""

    roc_auc: float  # 0.5 is chance
    average_precision: float  # the fraction of positives is chance
    best_f1: float  # over all thresholds


def score(values: NDArray[np.floating], truth: NDArray[np.bool_]) -> Score:
    """Compare `values`, high for likely positives, with `truth` of the same shape.

    Equal values share one threshold, so ties have no effect on the scores. Average precision is the
    sum over thresholds of precision times gain in recall. Raises ValueError if a class is missing.
    """
    positives = int(truth.sum())
    negatives = truth.size - positives
    if not positives or not negatives:
        raise ValueError(f"truth has {positives} positive and {negatives} negative voxels")
    order = np.argsort(-values, axis=None, kind="stable")
    ranked = values.reshape(-1)[order]
    last_of_ties = np.flatnonzero(np.append(np.diff(ranked) != 0, True))
    true_positives = np.cumsum(truth.reshape(-1)[order], dtype=np.int64)[last_of_ties]
    called = last_of_ties + 1
    recall = np.concatenate([[0.0], true_positives / positives])
    false_alarms = np.concatenate([[0.0], (called - true_positives) / negatives])
    precision = true_positives / called
    return Score(
        roc_auc=float((np.diff(false_alarms) * (recall[1:] + recall[:-1]) / 2).sum()),
        average_precision=float((precision * np.diff(recall)).sum()),
        best_f1=float((2 * true_positives / (called + positives)).max()),
    )
