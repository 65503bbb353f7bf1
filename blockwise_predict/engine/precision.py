"""What a network computes in: float32, or what a device does faster if it is exact enough."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from blockwise_predict.engine.values import Encoding
from blockwise_predict.errors import ConfigError

# tfloat32 is float32 whose products a GPU rounds to 10 bits.
DTYPES = {
    "mixed": torch.float32,
    "float32": torch.float32,
    "tfloat32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
DEEP_DTYPES = {**DTYPES, "mixed": torch.bfloat16}
CANDIDATES = {"cpu": ("bfloat16",), "cuda": ("float16", "bfloat16", "tfloat32")}
# Of the span of the values, where they are stored as floats.
FLOAT_TOLERANCE = 0.002
# What is hardly faster is not worth any error.
LEAST_SPEEDUP = 1.1


def likely_dtype(precision: str, device: torch.device) -> torch.dtype:
    """What a network will probably compute in, before `auto` has been tried."""
    if precision != "auto":
        return DTYPES[precision]
    if device.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return torch.float32
    return DTYPES[CANDIDATES[device.type][0]]


@dataclass(frozen=True)
class PrecisionChoice:
    """The precision of a run, and how it was found.

    `error` is the root mean square of the differences from float32 on the tile that was tried,
    `largest` the largest of them, `tolerance` what `error` had to stay below, `speedup` the time of
    float32 over that of the choice. All None if the precision was given.
    """

    precision: str
    error: float | None = None
    largest: float | None = None
    tolerance: float | None = None
    speedup: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def __str__(self) -> str:
        if self.error is None or self.tolerance is None:
            return self.precision
        if self.precision == "float32":
            return "float32 (nothing faster was exact enough)"
        return (
            f"{self.precision}: {self.speedup:.1f}x as fast as float32, rms error "
            f"{self.error:.2g} (allowed {self.tolerance:.2g}), largest {self.largest:.2g}"
        )


def check_precision(precision: str, device: torch.device) -> None:
    """Raise ConfigError for a precision that a device does not have, or only in slow motion."""
    if precision in ("auto", "float32", *CANDIDATES[device.type]):
        return
    raise ConfigError(
        f"--precision {precision} is not for {device.type}: it has float32, "
        f"{', '.join(CANDIDATES[device.type])}. auto tries what is fast."
    )


def tolerance_of(encoding: Encoding, values: NDArray[np.float32]) -> float:
    """Half an output step; for floats a part of the span of the values."""
    if encoding.step is not None:
        return encoding.step / 2
    return FLOAT_TOLERANCE * float(values.max() - values.min())


def choose_precision(
    predict: Callable[[str], NDArray[np.float32]], encoding: Encoding, device: torch.device
) -> PrecisionChoice:
    """Try what the device does fast against float32; the fastest that is exact enough.

    `predict` gives a tile's values at a precision.
    """
    exact, seconds = _timed(predict, "float32")
    tolerance = tolerance_of(encoding, exact)
    best = PrecisionChoice("float32", 0.0, 0.0, tolerance, 1.0)
    for candidate in CANDIDATES[device.type]:
        values, candidate_seconds = _timed(predict, candidate)
        difference = np.abs(values - exact)
        error = float(np.sqrt(np.mean(difference.astype(np.float64) ** 2)))
        speedup = seconds / candidate_seconds
        least = LEAST_SPEEDUP if best.precision == "float32" else best.speedup or 0.0
        if error <= tolerance and speedup >= least:
            largest = float(difference.max())
            best = PrecisionChoice(candidate, error, largest, tolerance, speedup)
    return best


def _timed(
    predict: Callable[[str], NDArray[np.float32]], precision: str
) -> tuple[NDArray[np.float32], float]:
    """Values, and the seconds of a second run: the first one warms up."""
    predict(precision)
    begin = time.perf_counter()
    values = predict(precision)
    return values, time.perf_counter() - begin
