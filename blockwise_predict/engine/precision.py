"""What a network computes in: float32, or what a device does faster if it is exact enough.

Which precisions a device does faster is known from what it is, never measured: a timing would tell
how busy the machine is as well. Whether one is exact enough is tried on the user's data.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from blockwise_predict.architectures import UNetShapes
from blockwise_predict.architectures.trace import trace
from blockwise_predict.engine.settings import PrecisionChoice
from blockwise_predict.engine.values import Encoding
from blockwise_predict.errors import ConfigError

# Of the first level. tfloat32 is float32 whose products a GPU rounds to 10 bits.
DTYPES = {
    "float32": torch.float32,
    "tfloat32": torch.float32,
    "mixed": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
# Of the levels below it.
DEEP_DTYPES = {**DTYPES, "mixed": torch.bfloat16}
# What a device has beside float32, fastest first.
CANDIDATES = {"cpu": ("bfloat16", "mixed"), "cuda": ("float16", "bfloat16", "tfloat32")}
# Instructions that make products of bfloat16 at twice the rate of float32, or more. Where there are
# others, oneDNN emulates them, which is slower than float32.
FAST_BFLOAT16 = {"avx512_bf16", "amx_bf16"}
# GPUs have units for float16 since compute capability 7, for the others since 8.
FAST_ON_GPUS = {7: ("float16",), 8: CANDIDATES["cuda"]}
# Of the span of the values, where they are stored as floats.
FLOAT_TOLERANCE = 0.002
# `mixed` saves half the time of the arithmetic below the first level: a tenth of the whole.
LEAST_SHARE_BELOW = 0.2


def fast_precisions(device: torch.device) -> tuple[str, ...]:
    """What a device is known to do faster than float32, fastest first."""
    if device.type == "cpu":
        supported = torch.ops.mkldnn._is_mkldnn_bf16_supported()
        return CANDIDATES["cpu"] if supported and FAST_BFLOAT16 & cpu_flags() else ()
    if not torch.cuda.is_available():
        # Planned here for GPUs elsewhere, which will be of this decade.
        return CANDIDATES["cuda"]
    major, _ = torch.cuda.get_device_capability(device)
    return FAST_ON_GPUS.get(min(major, max(FAST_ON_GPUS)), ())


def cpu_flags() -> set[str]:
    """What the CPU can do, as Linux lists it; empty where there is no such list."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return set()
    found = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
    return set(found[1].split()) if found else set()


def likely_dtype(precision: str, device: torch.device) -> torch.dtype:
    """What a network will probably compute in, before `auto` has been tried."""
    if precision == "auto":
        precision = next(iter(fast_precisions(device)), "float32")
    return DTYPES[precision]


def faster_precisions(device: torch.device, shapes: UNetShapes, streamed: bool) -> tuple[str, ...]:
    """What a device is known to do faster than float32 for a network, fastest first."""
    worth_mixing = streamed and share_below(shapes) >= LEAST_SHARE_BELOW
    return tuple(p for p in fast_precisions(device) if p != "mixed" or worth_mixing)


def share_below(shapes: UNetShapes) -> float:
    """The part of a network's arithmetic that is done below its first level."""
    layers = trace(shapes, shapes.valid_input_shape((1000,) * shapes.dims))
    below = re.compile(r"\b(l_conv|r_up\.0|r_conv\.0)\.[1-9]")
    total = sum(layer.flops for layer in layers)
    return sum(layer.flops for layer in layers if below.search(layer.name)) / total


def check_precision(precision: str, device: torch.device, streamed: bool) -> None:
    """Raise ConfigError for a precision that a device, or a network's passes, do not have."""
    if precision not in ("auto", "float32", *CANDIDATES[device.type]):
        raise ConfigError(
            f"--precision {precision} is not for {device.type}: it has float32, "
            f"{', '.join(CANDIDATES[device.type])}. auto tries what is fast."
        )
    if precision == "mixed" and not streamed:
        raise ConfigError(
            "--precision mixed is not for networks with attention or padding 'same': their levels "
            "have one precision. auto tries what is fast."
        )


def tolerance_of(encoding: Encoding, values: NDArray[np.float32]) -> float:
    """Half an output step; for floats a part of the span of the finite values."""
    if encoding.step is not None:
        return encoding.step / 2
    finite = values[np.isfinite(values)]
    return FLOAT_TOLERANCE * float(np.ptp(finite)) if finite.size else 0.0


def choose_precision(
    predict: Callable[[str], NDArray[np.float32]], encoding: Encoding, faster: Iterable[str]
) -> PrecisionChoice:
    """Try what is `faster` than float32, fastest first; the first that is exact enough.

    `predict` gives a tile's values at a precision.
    """
    candidates = tuple(faster)
    if not candidates:
        return PrecisionChoice("float32", "device")
    exact = predict("float32")
    tolerance = tolerance_of(encoding, exact)
    rejected: dict[str, float | None] = {}
    for candidate in candidates:
        difference = _difference(predict(candidate), exact)
        error = None if difference is None else float(np.sqrt(np.mean(difference**2)))
        if difference is not None and error is not None and error <= tolerance:
            largest = float(difference.max())
            return PrecisionChoice(candidate, "error", error, largest, tolerance, rejected)
        rejected[candidate] = error
    return PrecisionChoice("float32", "error", 0.0, 0.0, tolerance, rejected)


def _difference(
    values: NDArray[np.float32], exact: NDArray[np.float32]
) -> NDArray[np.float64] | None:
    """Where values are finite; None if they are so in other places, or nowhere."""
    finite = np.isfinite(exact)
    if not finite.any() or not np.array_equal(finite, np.isfinite(values)):
        return None
    return np.abs(values[finite].astype(np.float64) - exact[finite])
