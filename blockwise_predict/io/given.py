"""What the user says of an array's place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from blockwise_predict.errors import ArrayError, shown
from blockwise_predict.geometry.grid import Lengths, exact_lengths, format_length
from blockwise_predict.io.frames import split_time, timing_of
from blockwise_predict.io.statement import Statement


@dataclass(frozen=True)
class Given:
    """What the user says of an array's place, and by which names: it overrides all else.

    In nm; a value for time may precede those of space, in the unit of the data.
    """

    voxel_size: Lengths | None = None
    offset: Lengths | None = None
    names: tuple[str, str] = ("--voxel-size", "--offset")

    def statements(self, found: Sequence[Statement]) -> list[Statement]:
        """The user's statement, if there is any, as a list; `found` are those of the array."""
        if self.voxel_size is None and self.offset is None:
            return []
        size, interval = split_time(self.voxel_size, found)
        offset, begin = split_time(self.offset, found)
        timing = timing_of(interval, begin)
        return [Statement("the user", size, offset, *self.names, timing=timing)]


def given_lengths(
    voxel_size: str | Sequence[object] | None, offset: str | Sequence[object] | None
) -> Given:
    """What a Python call says of an array's place. Raises ArrayError for invalid lengths."""
    names = ("voxel_size", "offset")
    size, begin = (
        parsed_lengths(name, value) for name, value in zip(names, (voxel_size, offset), strict=True)
    )
    return Given(size, begin, names)


def parsed_lengths(name: str, value: str | Sequence[object] | None) -> Lengths | None:
    """The lengths of an argument called `name`. Raises ArrayError for anything else."""
    try:
        return None if value is None else exact_lengths(_split(value))
    except (TypeError, ValueError):
        raise ArrayError(
            f"{name}={shown(value)}: give one length in nm for each spatial axis, for example "
            "(4.24, 4, 4)."
        ) from None


def _split(value: str | Sequence[object]) -> Sequence[object]:
    return value.split(",") if isinstance(value, str) else value


def check_given(
    location: str, names: tuple[str, str], own: list[Statement], found: list[Statement]
) -> None:
    """Raise ArrayError if the user gives more or fewer values than the attributes have."""
    lengths_found = [
        (source, len(values))
        for s in found
        for source, values in ((s.voxel_size_source, s.voxel_size), (s.offset_source, s.offset))
        if values is not None
    ]
    given = (own[0].voxel_size, own[0].offset) if own else (None, None)
    for name, values in zip(names, given, strict=True):
        for source, count in lengths_found:
            if values is not None and len(values) != count:
                raise ArrayError(
                    f"{name} {','.join(map(format_length, values))} has {len(values)} values "
                    f"for {location}; {source} has {count}. Give one per spatial axis."
                )
