"""The engine's settings and results as plain values, for modules that do not import torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

# Bytes per value of the first level, which dominates the memory of a tile.
PRECISION_BYTES = {"float32": 4, "tfloat32": 4, "mixed": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Streaming:
    """How tiles are streamed: the network's axes, the streamed one first, and planes per slab."""

    axes: tuple[int, ...]
    slab: int


@dataclass(frozen=True)
class PrecisionChoice:
    """The precision of a run, and how it was chosen.

    decided_by: None if the user gave the precision; "error" if faster precisions were tried on a
        tile; "device" if the device computes none faster than float32.
    error: root mean square of the differences from float32 on that tile; `largest` is the largest
        difference, `tolerance` the largest `error` allowed.
    rejected: errors of the faster precisions that were rejected; None where they could not be
        compared, because other values were NaN or infinite than in float32, or all were.
    """

    precision: str
    decided_by: Literal["error", "device"] | None = None
    error: float | None = None
    largest: float | None = None
    tolerance: float | None = None
    rejected: dict[str, float | None] | None = None

    def as_dict(self) -> dict[str, Any]:
        """A JSON-serialisable form."""
        return asdict(self)

    def __str__(self) -> str:
        if self.decided_by == "device":
            return f"{self.precision}: no precision is faster on this device"
        if self.decided_by is None or self.error is None or self.tolerance is None:
            return self.precision
        allowed = f"allowed {self.tolerance:.2g}"
        missed = "".join(f"; {_missed(*item)}" for item in (self.rejected or {}).items())
        if self.precision == "float32":
            return f"float32: no faster precision was accurate enough (rms error {allowed}{missed})"
        return (
            f"{self.precision}: the fastest that is accurate enough, rms error {self.error:.2g} "
            f"({allowed}{missed}), largest {self.largest:.2g}, in a sample"
        )


def _missed(precision: str, error: float | None) -> str:
    if error is None:
        return f"{precision} cannot be compared because of NaN or infinite values"
    return f"{precision} has {error:.2g}"
