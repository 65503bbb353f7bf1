"""Declared value ranges: the network's normalised input, and how its output is stored."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blockwise_predict.errors import ConfigError


@dataclass(frozen=True)
class Normalization:
    """`network input = raw * scale + shift`, the same for every voxel of the run."""

    scale: float
    shift: float = 0.0

    @classmethod
    def parse(cls, text: str, dtype: str) -> Normalization:
        """Parse `--normalize`.

        `auto`, `none`, `range:LOW,HIGH` (to 0..1), `range:LOW,HIGH,TO_LOW,TO_HIGH`, or
        `zscore:MEAN,STD`.

        `auto` depends on the stored dtype, as in DaCapo: uint8 / 255, uint16 / 65535, bool and
        floats unchanged. Raises ConfigError for `auto` with any other dtype.
        """
        if text == "auto":
            return cls(_scale_of_dtype(dtype))
        if text == "none":
            return cls(1.0)
        kind, _, numbers = text.partition(":")
        first, second, *target = (float(number) for number in numbers.split(","))
        if kind == "zscore":
            return cls(1.0 / second, -first / second)
        to_low, to_high = target or (0.0, 1.0)
        scale = (to_high - to_low) / (second - first)
        return cls(scale, to_low - first * scale)

    def apply(self, raw: NDArray[np.generic]) -> NDArray[np.float32]:
        """A normalised float32 copy, same shape, C order.

        32- and 64-bit values are normalised in float64: float32 would round large ones before the
        shift brings them close to 0. Values beyond float32's range become infinite.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            values = raw.astype(np.result_type(raw.dtype, np.float32), order="C")
            if self.scale != 1.0:
                values *= values.dtype.type(self.scale)
            if self.shift != 0.0:
                values += values.dtype.type(self.shift)
            return values.astype(np.float32, copy=False)

    def largest(self, raw: NDArray[np.generic]) -> float:
        """Largest magnitude of the normalised values; NaN if any of them is NaN."""
        return float(np.abs(self.apply(np.array([raw.min(), raw.max()]))).max())

    def __str__(self) -> str:
        shift = f" {'+' if self.shift > 0 else '-'} {abs(self.shift):g}" if self.shift else ""
        return f"raw * {self.scale:.9g}{shift}"


def _scale_of_dtype(dtype: str) -> float:
    if dtype == "uint8":
        return 1 / 255
    if dtype == "uint16":
        return 1 / 65535
    if dtype == "bool" or "float" in dtype:
        return 1.0
    raise ConfigError(
        f"--normalize auto: the input's dtype {dtype} has no usual range. Use "
        "--normalize range:LOW,HIGH (LOW becomes 0, HIGH becomes 1) or zscore:MEAN,STD or none."
    )


@dataclass(frozen=True)
class Encoding:
    """How output values are stored.

    Floats are stored unchanged. Integers span `value_range`: its low end maps to the smallest
    integer of the dtype, its high end to the largest, and values are rounded to the nearest step.
    Values outside it are clipped and counted; so are finite values beyond float16's range.
    """

    dtype: str
    value_range: tuple[float, float] | None = None

    @property
    def step(self) -> float | None:
        """Difference of value between consecutive integers; None for floats."""
        if self.value_range is None:
            return None
        info = np.iinfo(self.dtype)
        return (self.value_range[1] - self.value_range[0]) / (int(info.max) - int(info.min))

    def decode(self, stored: NDArray[np.generic]) -> NDArray[np.float32]:
        """The values that were encoded, to half a step."""
        values = stored.astype(np.float32)
        if self.step is None or self.value_range is None:
            return values
        info = np.iinfo(self.dtype)
        return (values - np.float32(info.min)) * np.float32(self.step) + np.float32(
            self.value_range[0]
        )


@dataclass(frozen=True)
class Part:
    """Consecutive channels of the network that are stored as one array, in one encoding."""

    channels: int
    encoding: Encoding
