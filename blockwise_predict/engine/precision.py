"""The precision a network computes in: float32, or a faster one if it is accurate enough.

Which precisions a device computes faster follows from its hardware and is never timed, since a
timing also depends on what else the machine is doing. Accuracy is measured on the user's data.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from blockwise_predict.architectures import UNetShapes
from blockwise_predict.architectures.trace import trace
from blockwise_predict.engine.settings import PrecisionChoice
from blockwise_predict.engine.values import Encoding, Part
from blockwise_predict.errors import ConfigError

# The first level's dtype. In tfloat32, a GPU rounds the factors of float32 products to 10 bits.
DTYPES = {
    "float32": torch.float32,
    "tfloat32": torch.float32,
    "mixed": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
# The dtype of the levels below it.
DEEP_DTYPES = {**DTYPES, "mixed": torch.bfloat16}
# Precisions of a device besides float32, fastest first.
CANDIDATES = {"cpu": ("bfloat16", "mixed"), "cuda": ("float16", "bfloat16", "tfloat32")}
# Instruction sets with bfloat16 products at twice the rate of float32 or more. On other CPUs oneDNN
# emulates bfloat16, which is slower than float32.
FAST_BFLOAT16 = {"avx512_bf16", "amx_bf16"}
# By compute capability: tensor cores for float16 since 7, for bfloat16 and tfloat32 since 8.
FAST_ON_GPUS = {7: ("float16",), 8: CANDIDATES["cuda"]}
# Allowed error of values stored as floats, relative to their span.
FLOAT_TOLERANCE = 0.002
# `mixed` halves the time of the levels below the first. With this share of the arithmetic there, it
# saves a tenth of the whole, and is not worth trying for less.
MIN_DEEP_SHARE = 0.2


def fast_precisions(device: torch.device) -> tuple[str, ...]:
    """Precisions that a device computes faster than float32, fastest first."""
    if device.type == "cpu":
        supported = torch.ops.mkldnn._is_mkldnn_bf16_supported()
        return CANDIDATES["cpu"] if supported and FAST_BFLOAT16 & cpu_flags() else ()
    if not torch.cuda.is_available():
        # The plan is for GPUs on other machines; assume recent ones.
        return CANDIDATES["cuda"]
    major, _ = torch.cuda.get_device_capability(device)
    return FAST_ON_GPUS.get(min(major, max(FAST_ON_GPUS)), ())


def cpu_flags() -> set[str]:
    """The CPU's feature flags as Linux lists them; empty on other systems."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return set()
    found = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
    return set(found[1].split()) if found else set()


def likely_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The dtype a network will probably compute in, before `auto` has been resolved."""
    if precision == "auto":
        precision = next(iter(fast_precisions(device)), "float32")
    return DTYPES[precision]


def faster_precisions(device: torch.device, streamed: UNetShapes | None) -> tuple[str, ...]:
    """Precisions that may speed up a network on a device, fastest first.

    `streamed` is the network's shapes if it is streamed.
    """
    worth_mixing = streamed is not None and deep_share(streamed) >= MIN_DEEP_SHARE
    return tuple(p for p in fast_precisions(device) if p != "mixed" or worth_mixing)


def deep_share(shapes: UNetShapes) -> float:
    """The share of a network's arithmetic in the levels below the first."""
    layers = trace(shapes, shapes.valid_input_shape((1000,) * shapes.dims))
    below = re.compile(r"\b(l_conv|r_up\.\d+|r_conv\.\d+)\.[1-9]")
    total = sum(layer.flops for layer in layers)
    return sum(layer.flops for layer in layers if below.search(layer.name)) / total


def check_precision(precision: str, device: torch.device, streamed: bool) -> None:
    """Raise ConfigError for a precision that the device or the network's passes do not support."""
    if precision not in ("auto", "float32", *CANDIDATES[device.type]):
        raise ConfigError(
            f"--precision {precision} is not available on {device.type}. Use float32, "
            f"{', '.join(CANDIDATES[device.type])}, or auto, which tries the fast ones."
        )
    if precision == "mixed" and not streamed:
        raise ConfigError(
            "--precision mixed is not available for networks with attention or padding 'same', "
            "whose levels share one precision. Use auto, which tries the fast ones."
        )


def tolerance_of(encoding: Encoding, values: NDArray[np.float32]) -> float:
    """Half an output step; for floats, a fraction of the span of the finite values."""
    if encoding.step is not None:
        return encoding.step / 2
    finite = values[np.isfinite(values)]
    return FLOAT_TOLERANCE * float(np.ptp(finite)) if finite.size else 0.0


@dataclass(frozen=True)
class _PartError:
    """Errors of a part's values in a precision; None if other values are finite, or none are."""

    rms: float | None
    largest: float
    tolerance: float

    @property
    def share(self) -> float:
        """The error relative to what is allowed."""
        if self.rms is None:
            return inf
        if not self.tolerance:
            return inf if self.rms else 0.0
        return self.rms / self.tolerance


def choose_precision(
    predict: Callable[[str], Sequence[NDArray[np.float32]]],
    parts: Sequence[Part],
    faster: Iterable[str],
) -> PrecisionChoice:
    """The first of the `faster` precisions that is accurate enough for all parts, else float32.

    `predict` computes a tile's values `[*spatial, K]` in a precision, for each network of the run;
    every part of every one must be accurate enough. The errors in the choice are those of the part
    that comes closest to its tolerance.
    """
    candidates = tuple(faster)
    if not candidates:
        return PrecisionChoice("float32", "device")
    exact = _split(predict("float32"), parts)
    encodings = itertools.cycle(part.encoding for part in parts)
    tolerances = [tolerance_of(*pair) for pair in zip(encodings, exact, strict=False)]
    tolerance = tolerances[0]
    rejected: dict[str, float | None] = {}
    for candidate in candidates:
        values = _split(predict(candidate), parts)
        worst = max(map(_part_error, values, exact, tolerances), key=lambda error: error.share)
        if worst.rms is not None and worst.rms <= worst.tolerance:
            return PrecisionChoice(
                candidate, "error", worst.rms, worst.largest, worst.tolerance, rejected
            )
        rejected[candidate], tolerance = worst.rms, worst.tolerance
    return PrecisionChoice("float32", "error", 0.0, 0.0, tolerance, rejected)


def _split(
    values: Sequence[NDArray[np.float32]], parts: Sequence[Part]
) -> list[NDArray[np.float32]]:
    """The values of each part, network by network."""
    ends = np.cumsum([part.channels for part in parts])
    return [part for each in values for part in np.split(each, ends[:-1], axis=-1)]


def _part_error(
    values: NDArray[np.float32], exact: NDArray[np.float32], tolerance: float
) -> _PartError:
    difference = _difference(values, exact)
    if difference is None:
        return _PartError(None, 0.0, tolerance)
    return _PartError(float(np.sqrt(np.mean(difference**2))), float(difference.max()), tolerance)


def _difference(
    values: NDArray[np.float32], exact: NDArray[np.float32]
) -> NDArray[np.float64] | None:
    """Absolute differences of finite values; None if other voxels are finite, or none are."""
    finite = np.isfinite(exact)
    if not finite.any() or not np.array_equal(finite, np.isfinite(values)):
        return None
    return np.abs(values[finite].astype(np.float64) - exact[finite])
