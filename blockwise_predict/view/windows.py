"""Which values are shown as black and white, where nobody says."""

from __future__ import annotations

from math import ceil, floor, isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    if image.finest.dtype == np.uint8:
        return 0.0, 255.0
    values = sample(image)
    found = values[np.isfinite(values)]
    if not found.size or (values.dtype.kind == "f" and found.min() >= 0 and found.max() <= 1):
        return 0.0, 1.0
    low, high = np.percentile(found, [_BEYOND_PERCENT, 100 - _BEYOND_PERCENT]).tolist()
    return (low, high) if isfinite(high - low) and low < high else (low - 0.5, low + 0.5)


def sample(image: Image) -> NDArray[Any]:
    """Values in the middle of the coarsest level; none if they cannot be read."""
    array = image.levels[-1]
    begin = [max(0, (size - _EDGE) // 2) for size in array.shape]
    end = [min(size, b + _EDGE) for size, b in zip(array.shape, begin, strict=True)]
    try:
        return array.read(begin, end)
    except (PredictError, ValueError):
        return np.zeros(0, array.dtype)


def fitting_window(window: Window, dtype: np.dtype[Any]) -> Window:
    """A window that neuroglancer takes for a type: within its limits, of integers whole numbers."""
    low, high = window
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return max(floor(low), int(limits.min)), min(ceil(high), int(limits.max))
    bound = float(np.finfo(dtype).max)
    return max(low, -bound), min(high, bound)
