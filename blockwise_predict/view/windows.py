"""Which values are shown as black and white, where nobody says."""

from __future__ import annotations

from math import isfinite
from typing import Any

import numpy as np

from blockwise_predict.errors import PredictError
from blockwise_predict.io.images import Image

Window = tuple[float, float]

# Voxels along an axis that are looked at, and the share of values beyond the window, on each side.
_EDGE = 64
_BEYOND_PERCENT = 0.5


def limits_window(image: Image) -> Window:
    """The range of an integer type, which a prediction spans; of floats that of a sample."""
    return type_limits(image.finest.dtype) or sampled_window(image)


def type_limits(dtype: np.dtype[Any]) -> Window | None:
    """The range of an integer type; None for floats."""
    if dtype.kind not in "iu":
        return None
    limits = np.iinfo(dtype)
    return float(limits.min), float(limits.max)


def sampled_window(image: Image) -> Window:
    """The range of uint8; of other types that of a sample in the middle of the coarsest level.

    Floats within 0 to 1 are shown from 0 to 1.
    """
    array = image.levels[-1]
    if array.dtype == np.uint8:
        return 0.0, 255.0
    begin = [max(0, (size - _EDGE) // 2) for size in array.shape]
    end = [min(size, b + _EDGE) for size, b in zip(array.shape, begin, strict=True)]
    try:
        values = array.read(begin, end)
    except (PredictError, ValueError):
        return 0.0, 1.0
    found = values[np.isfinite(values)]
    if not found.size or (array.dtype.kind == "f" and found.min() >= 0 and found.max() <= 1):
        return 0.0, 1.0
    low, high = np.percentile(found, [_BEYOND_PERCENT, 100 - _BEYOND_PERCENT]).tolist()
    return (low, high) if isfinite(high - low) and low < high else (low - 0.5, low + 0.5)
