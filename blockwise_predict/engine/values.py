"""Declared value ranges: the network's normalised input, and how its output is stored."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blockwise_predict.config.normalize import parse_rule
from blockwise_predict.config.postprocess import Postprocess
from blockwise_predict.errors import ConfigError


@dataclass(frozen=True)
class Normalization:
    """`network input = raw * scale + shift`, the same for every voxel of the run.

    With `bounds` the result is clipped to them; the lower one is first.
    """

    scale: float
    shift: float = 0.0
    bounds: tuple[float, float] | None = None

    @classmethod
    def parse(cls, text: str, dtype: str) -> Normalization:
        """Parse a rule of `--normalize` that has numbers of its own: see `config.normalize`.

        `auto` depends on the stored dtype, as in DaCapo: uint8 / 255, uint16 / 65535, bool and
        floats unchanged. Raises ConfigError for `auto` with any other dtype, and ValueError for
        rules whose numbers depend on the data.
        """
        rule = parse_rule(text)
        if rule.kind == "auto":
            return cls(_scale_of_dtype(dtype))
        if rule.kind == "none":
            return cls(1.0)
        if rule.depends_on_data or rule.source is None:
            raise ValueError(f"{text} has no numbers yet")
        first, second = rule.source
        if rule.kind == "zscore":
            return cls(1.0 / second, -first / second)
        low, high = rule.target
        scale = (high - low) / (second - first)
        bounds = (min(low, high), max(low, high)) if rule.clip else None
        return cls(scale, low - first * scale, bounds)

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
            if self.bounds is not None:
                np.clip(values, *self.bounds, out=values)
            return values.astype(np.float32, copy=False)

    def largest(self, raw: NDArray[np.generic]) -> float:
        """Largest magnitude of the normalised values; NaN if any of them is NaN."""
        return float(np.abs(self.apply(np.array([raw.min(), raw.max()]))).max())

    def __str__(self) -> str:
        shift = f" {'+' if self.shift > 0 else '-'} {abs(self.shift):g}" if self.shift else ""
        clipped = f", clipped to {self.bounds[0]:g}..{self.bounds[1]:g}" if self.bounds else ""
        return f"raw * {self.scale:.9g}{shift}{clipped}"


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
    Values outside it are clipped and counted; so are finite values beyond float16's range. With
    `postprocess` its decisions are stored instead of values, and there is no range.
    """

    dtype: str
    value_range: tuple[float, float] | None = None
    postprocess: Postprocess | None = None

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

    @property
    def stored_channels(self) -> int:
        """The number of channels of the array."""
        postprocess = self.encoding.postprocess
        return self.channels if postprocess is None else postprocess.stored_channels(self.channels)
