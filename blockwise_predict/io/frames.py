"""When the frames of an array with a time axis are, by what its metadata say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from blockwise_predict.errors import ArrayError
from blockwise_predict.geometry.grid import format_length
from blockwise_predict.io.statement import Statement
from blockwise_predict.io.timing import Timing
from blockwise_predict.io.units import LARGEST, SMALLEST


@dataclass(frozen=True)
class Frames:
    """Frames `interval` apart, the first of which begins at `begin`, in `unit` (empty: not known).

    `source` says how the interval is known, and `notes` are for the user.
    """

    unit: str
    interval: Fraction
    begin: Fraction
    source: str
    notes: tuple[str, ...]


def place_frames(statements: Sequence[Statement]) -> Frames:
    """The frames by the first statement that says each of unit, interval and begin.

    Without an interval frames are 1 apart. Raises ArrayError for an interval that is not positive,
    or beyond the limits.
    """
    timed = [(s.voxel_size_source or s.source, s.timing) for s in statements if s.timing]
    unit = next((timing.unit for _, timing in timed if timing.unit), "")
    found = [(source, timing.in_unit(unit)) for source, timing in timed]
    intervals = [(source, t.interval) for source, t in found if t.interval is not None]
    begin = next((t.begin for _, t in found if t.begin is not None), Fraction(0))
    if not intervals:
        note = "the interval from one frame to the next is not known: 1 is taken"
        return Frames(unit, Fraction(1), begin, "none found", (note,))
    source, interval = intervals[0]
    for value in (interval, begin):
        if interval <= 0 or (value and not SMALLEST <= abs(value) <= LARGEST):
            raise ArrayError(
                f"{source}: frames {format_length(interval)} apart from {format_length(begin)} on "
                f"cannot be placed; the interval must be positive, and both at most {LARGEST:g}."
            )
    notes = [
        f"frame interval: {other} says {format_length(value)}; {format_length(interval)} of "
        f"{source} is used"
        for other, value in intervals[1:]
        if value != interval
    ]
    return Frames(unit, interval, begin, source, tuple(notes))


def split_time(
    values: Sequence[Fraction] | None, found: Sequence[Statement]
) -> tuple[tuple[Fraction, ...] | None, Fraction | None]:
    """The spatial part of what the user gives, and the value for time if there is one before it.

    There is if `found` names an axis of time, and the values are as many as physical axes.
    """
    if values is None:
        return None, None
    named = next((s.axes for s in found if s.axes is not None and s.axes.has_time), None)
    if named is None or len(values) != len(named.physical):
        return tuple(values), None
    return tuple(values[1:]), values[0]


def timing_of(interval: Fraction | None, begin: Fraction | None) -> Timing | None:
    """What the user says of the frames, in the unit of the data."""
    return None if interval is None and begin is None else Timing("", interval, begin)
