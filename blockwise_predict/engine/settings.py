"""What the engine is told, and tells, of a run: plain values, for those who do without torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

# Bytes of a value of the first level, which decides how much memory a tile takes. tfloat32 is
# float32 whose products a GPU rounds to 10 bits.
PRECISION_BYTES = {"float32": 4, "tfloat32": 4, "mixed": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Streaming:
    """How tiles are streamed: the order of the network's axes, and input planes per slab."""

    axes: tuple[int, ...]
    slab: int


@dataclass(frozen=True)
class PrecisionChoice:
    """The precision of a run, and how it was found.

    `decided_by` is None if the precision was given, "error" if what the device does fast was tried,
    "device" if it does nothing faster than float32. `error` is the root mean square of the
    differences from float32 on the tile that was tried, `largest` the largest of them, `tolerance`
    what `error` had to stay below. `rejected` has the errors of what is faster still; None where
    NaN and infinite values were not those of float32, or nothing else was there.
    """

    precision: str
    decided_by: Literal["error", "device"] | None = None
    error: float | None = None
    largest: float | None = None
    tolerance: float | None = None
    rejected: dict[str, float | None] | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def __str__(self) -> str:
        if self.decided_by == "device":
            return f"{self.precision}: this device does nothing faster"
        if self.decided_by is None or self.error is None or self.tolerance is None:
            return self.precision
        allowed = f"allowed {self.tolerance:.2g}"
        missed = "".join(f"; {_missed(*item)}" for item in (self.rejected or {}).items())
        if self.precision == "float32":
            return f"float32: nothing faster was exact enough (rms error {allowed}{missed})"
        return (
            f"{self.precision}: the fastest that is exact enough, rms error {self.error:.2g} "
            f"({allowed}{missed}), largest {self.largest:.2g}"
        )


def _missed(precision: str, error: float | None) -> str:
    if error is None:
        return f"{precision} cannot be compared, for NaN or infinite values"
    return f"{precision} has {error:.2g}"
