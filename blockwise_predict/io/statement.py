"""What one convention of metadata says about where an array lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from blockwise_predict.geometry.grid import Lengths
from blockwise_predict.io.timing import Timing, time_unit
from blockwise_predict.io.units import scaled

SPACE, CHANNEL, TIME = "space", "channel", "time"
KINDS = {SPACE, CHANNEL, TIME}

# Maximum length of an axis name, in characters.
MAX_NAME = 100

T = TypeVar("T")


@dataclass(frozen=True)
class Axes:
    """The axes of an array in C order: a name and a kind (space, channel, time) for each."""

    names: tuple[str, ...]
    kinds: tuple[str, ...]

    def of_kind(self, kind: str) -> tuple[int, ...]:
        """Positions of the axes of one kind."""
        return tuple(index for index, own in enumerate(self.kinds) if own == kind)

    def of_volume(self, *, with_time: bool) -> tuple[int, ...]:
        """Positions of the axes of the volume: space, and time before it if that is one."""
        return (*(self.of_kind(TIME) if with_time else ()), *self.of_kind(SPACE))

    @property
    def has_time(self) -> bool:
        """Whether there is one axis of time."""
        return len(self.of_kind(TIME)) == 1

    @property
    def physical(self) -> tuple[int, ...]:
        """Positions of the axes of time and space, as they are stored."""
        return tuple(index for index, kind in enumerate(self.kinds) if kind != CHANNEL)


@dataclass(frozen=True)
class Statement:
    """What one source says. Lengths in nm, for the spatial axes, in C order.

    `timing` is for the axis of time, if the source says something of it.
    """

    source: str
    voxel_size: Lengths | None = None
    offset: Lengths | None = None
    voxel_size_source: str = ""
    offset_source: str = ""
    axes: Axes | None = None
    notes: tuple[str, ...] = ()
    timing: Timing | None = None

    @property
    def is_informative(self) -> bool:
        """Whether anything was found."""
        return bool(self.voxel_size or self.offset or self.axes or self.notes or self.timing)


def axes_from_names(names: object, ndim: int) -> Axes | None:
    """Axes of an array by their names alone; None unless each axis has a name (a string).

    A name that ends in `^` (funlib's mark), `c`, `channel` and the like is a channel; `t` or `time`
    is time.
    """
    if not isinstance(names, list | tuple) or len(names) != ndim:
        return None
    texts = tuple(name for name in names if isinstance(name, str) and 0 < len(name) <= MAX_NAME)
    return Axes(texts, tuple(_kind(text) for text in texts)) if len(texts) == ndim else None


def _kind(name: str) -> str:
    text = name.lower()
    if text.endswith("^") or text in ("c", "channel", "channels"):
        return CHANNEL
    return TIME if text in ("t", "time") else SPACE


def spatial_part(values: Sequence[T], axes: Axes | None) -> tuple[T, ...]:
    """The values of the spatial axes, where there is one for each axis, or for each of time and
    space; else all of them."""
    places = _places(values, axes)
    if axes is None or places is None:
        return tuple(values)
    spatial = axes.of_kind(SPACE)
    return tuple(value for value, axis in zip(values, places, strict=True) if axis in spatial)


def time_part(values: Sequence[T], axes: Axes | None) -> T | None:
    """The value of the only axis of time, where `spatial_part` finds one for each axis."""
    places = _places(values, axes)
    if axes is None or places is None or not axes.has_time:
        return None
    return values[places.index(axes.of_kind(TIME)[0])]


def _places(values: Sequence[object], axes: Axes | None) -> tuple[int, ...] | None:
    """Which axis each of some values is for; None if they may be for the spatial axes alone."""
    if axes is None:
        return None
    if len(values) == len(axes.kinds):
        return tuple(range(len(values)))
    has_time = bool(axes.of_kind(TIME))
    return axes.physical if has_time and len(values) == len(axes.physical) else None


def spatial_lengths(
    values: Lengths, units: object, axes: Axes | None, what: str
) -> tuple[Lengths, list[str]]:
    """The spatial axes' values in nm, and notes about units that were guessed.

    `units` is one name, or a list with one for each axis or each spatial axis.
    """
    numbers = spatial_part(values, axes)
    names = spatial_part(units, axes) if isinstance(units, list) else (units,) * len(numbers)
    if len(names) != len(numbers):
        names = (None,) * len(numbers)
    return scaled(numbers, names, what)


def read_timing(
    axes: Axes | None,
    units: object,
    *,
    interval: Lengths | None = None,
    begin: Lengths | None = None,
) -> Timing | None:
    """What values for all axes, or for those of time and space, say of the axis of time.

    `units` is a list in the same order. None if there is no such axis, or nothing is said of it.
    """
    size, start = (None if v is None else time_part(v, axes) for v in (interval, begin))
    unit = time_unit(time_part(units, axes) if isinstance(units, list) else None)
    return None if (size, start, unit) == (None, None, "") else Timing(unit, size, start)
