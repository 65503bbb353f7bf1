"""Conversion of output values to the dtype they are stored in."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

import numpy as np
import torch

from blockwise_predict.engine.values import Encoding
from blockwise_predict.errors import PredictError


@dataclass(frozen=True)
class Encoded:
    """Stored values, and how many of them were clipped or are not finite."""

    data: torch.Tensor
    clipped: int
    nonfinite: int


def encode(values: torch.Tensor, encoding: Encoding) -> Encoded:
    """Encode float32 values, on their device; overwrites `values`.

    Raises PredictError for NaN or infinity in integer outputs.
    """
    lowest, highest = (float(bound) for bound in torch.aminmax(values))
    nonfinite = 0
    if not (isfinite(lowest) and isfinite(highest)):
        nonfinite = int(values.numel() - values.isfinite().sum())
    dtype = getattr(torch, encoding.dtype)
    if encoding.step is None or encoding.value_range is None:
        return Encoded(*_as_float(values, lowest, highest, dtype), nonfinite)
    if nonfinite:
        raise PredictError(
            f"{nonfinite} of {values.numel()} output values are NaN or infinite, which "
            f"{encoding.dtype} cannot store. Check the input, or use --output-dtype float32."
        )
    low, high = encoding.value_range
    info = np.iinfo(encoding.dtype)
    clipped = 0
    if lowest < low or highest > high:
        clipped = int(((values < low) | (values > high)).sum())
    steps = values.sub_(low).mul_(1 / encoding.step).round_().add_(int(info.min))
    return Encoded(steps.clamp_(int(info.min), int(info.max)).to(dtype), clipped, 0)


def _as_float(
    values: torch.Tensor, lowest: float, highest: float, dtype: torch.dtype
) -> tuple[torch.Tensor, int]:
    """Values clipped to the range of a float dtype, and how many were clipped."""
    limit = torch.finfo(dtype).max
    if -limit <= lowest and highest <= limit:
        return values.to(dtype), 0
    beyond = (values.abs() > limit) & values.isfinite()
    stored = torch.where(beyond, values.clamp(-limit, limit), values).to(dtype)
    return stored, int(beyond.sum())
