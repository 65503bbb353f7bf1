"""Conversion of output values to what is stored: numbers in a dtype, or decisions on them."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite

import numpy as np
import torch

from blockwise_predict.config.postprocess import Postprocess
from blockwise_predict.engine.values import Encoding
from blockwise_predict.errors import PredictError


@dataclass(frozen=True)
class Encoded:
    """Stored values, and how many of them were clipped, or come from values that are not finite."""

    data: torch.Tensor
    clipped: int
    nonfinite: int


def encode(values: torch.Tensor, encoding: Encoding) -> Encoded:
    """Encode float32 values `[..., K]`, on their device; overwrites `values`.

    The result has the same shape, except that argmax leaves one channel. Raises PredictError for
    NaN or infinity in integers that span a range.
    """
    lowest, highest = (float(bound) for bound in torch.aminmax(values))
    nonfinite = 0
    if not (isfinite(lowest) and isfinite(highest)):
        nonfinite = int(values.numel() - values.isfinite().sum())
    dtype = getattr(torch, encoding.dtype)
    if encoding.postprocess is not None:
        return _decided(values, encoding.postprocess, dtype, nonfinite)
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


def _decided(
    values: torch.Tensor, rule: Postprocess, dtype: torch.dtype, nonfinite: int
) -> Encoded:
    if rule.kind == "threshold":
        return Encoded((values >= rule.threshold).to(dtype), 0, nonfinite)
    if nonfinite:
        nonfinite = int((~values.isfinite()).any(dim=-1).sum())
    return Encoded(_argmax(values, dtype), 0, nonfinite)


def _argmax(values: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The first channel with the largest value, `[..., 1]`; NaN is smaller than any number.

    Channel by channel: torch.argmax takes NaN for the largest, needs eight bytes for each voxel,
    and on CPUs takes ten times as long if channels are not the fastest axis.
    """
    largest = values[..., :1].nan_to_num(nan=-inf, posinf=inf, neginf=-inf)
    # Of uint16, torch has no arithmetic.
    kind = torch.uint8 if dtype == torch.uint8 else torch.int32
    index = torch.zeros(largest.shape, dtype=kind, device=values.device)
    for channel in range(1, values.shape[-1]):
        own = values[..., channel : channel + 1]
        is_larger = own > largest
        index.masked_fill_(is_larger, channel)
        largest = torch.where(is_larger, own, largest)
    return index.to(dtype)


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
