"""Time axes: their units, and when frames are.

Space is always in nm; time stays in the unit of the data, by its name in OME-NGFF.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

# Maximum length of the name of a unit, in characters.
_MAX_NAME = 100
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
# Of OME-NGFF's names: the symbol and other spellings, and the length in seconds.
_UNITS: dict[str, tuple[tuple[str, ...], Fraction]] = {
    "nanosecond": (("ns", "nsec", "nanoseconds"), Fraction(1, 10**9)),
    "microsecond": (("us", "µs", "μs", "usec", "microseconds"), Fraction(1, 10**6)),
    "millisecond": (("ms", "msec", "milliseconds"), Fraction(1, 1000)),
    "second": (("s", "sec", "secs", "seconds"), Fraction(1)),
    "minute": (("min", "mins", "minutes"), Fraction(_MINUTE)),
    "hour": (("h", "hr", "hrs", "hours"), Fraction(_HOUR)),
    "day": (("d", "days"), Fraction(_DAY)),
}
_NAMES = {text: name for name, (others, _) in _UNITS.items() for text in (name, *others)}


@dataclass(frozen=True)
class Timing:
    """When the frames along a time axis are: what one source says of it, in `unit`.

    The `interval` from one frame to the next, and where the first one begins; None if not said.
    `unit` is a name of OME-NGFF, another name that the data use, or empty.
    """

    unit: str
    interval: Fraction | None = None
    begin: Fraction | None = None

    def in_unit(self, unit: str) -> Timing:
        """The same in another unit; unchanged if one of the two is not known."""
        if self.unit == unit or not {self.unit, unit} <= _UNITS.keys():
            return self
        factor = _UNITS[self.unit][1] / _UNITS[unit][1]
        interval = None if self.interval is None else self.interval * factor
        return Timing(unit, interval, None if self.begin is None else self.begin * factor)


def time_unit(text: object) -> str:
    """The name of a unit of time, as OME-NGFF has it where it has one; empty without any."""
    name = text.strip() if isinstance(text, str) else ""
    return _NAMES.get(name.lower(), name[:_MAX_NAME])


def unit_symbol(unit: str) -> str:
    """The symbol of a unit of time, `s` for `second`: N5 and neuroglancer take no names."""
    return _UNITS[unit][0][0] if unit in _UNITS else unit


def seconds_of(unit: str) -> Fraction | None:
    """How many seconds a unit of time is; None if that is not known."""
    return _UNITS[unit][1] if unit in _UNITS else None


def whole_timing(sizes: Sequence[Fraction], unit: str) -> tuple[str, int] | None:
    """A unit of time in which all `sizes` are whole numbers, and how many of it are in `unit`."""
    parts = [name for name in ("millisecond", "microsecond", "nanosecond") if unit in _UNITS]
    for name in (unit, *parts):
        factor = Timing(unit, Fraction(1)).in_unit(name).interval or Fraction(1)
        if all((size * factor).denominator == 1 for size in (*sizes, Fraction(1))):
            return name, int(factor)
    return None
