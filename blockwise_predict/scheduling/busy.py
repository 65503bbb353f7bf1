"""How much of its time a worker's device computed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Busy:
    """Counts from the end of a worker's first block to that of its last."""

    _first: float | None = None
    _last: float = 0.0
    _computed: float = 0.0

    def count(self, now: float, compute: float, write: float) -> None:
        """A block was done now; it took `compute` seconds, and `write` from then to its commit."""
        end = now - write
        if self._first is None:
            self._first = end
        else:
            self._computed += compute
        self._last = end

    @property
    def began(self) -> bool:
        """Whether a block was counted."""
        return self._first is not None

    @property
    def share(self) -> float | None:
        """The share of the time that was computed; None for a worker of less than two blocks."""
        if self._first is None or self._last <= self._first:
            return None
        return min(1.0, self._computed / (self._last - self._first))
