"""What the engine is told, and tells, of a run: plain values, for those who do without torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

# Bytes of a value. tfloat32 is float32 whose products a GPU rounds to 10 bits.
PRECISION_BYTES = {"float32": 4, "tfloat32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Streaming:
    """How tiles are streamed: the order of the network's axes, and input planes per slab."""

    axes: tuple[int, ...]
    slab: int


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
