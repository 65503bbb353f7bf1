"""What one convention of metadata says about where an array lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from blockwise_predict.geometry.grid import Lengths
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


@dataclass(frozen=True)
class Statement:
    """What one source says. Axes in C order, lengths in nm, for all axes or the spatial ones."""

    source: str
    voxel_size: Lengths | None = None
    offset: Lengths | None = None
    voxel_size_source: str = ""
    offset_source: str = ""
    axes: Axes | None = None
    notes: tuple[str, ...] = ()

    @property
    def is_informative(self) -> bool:
        """Whether anything was found."""
        return bool(self.voxel_size or self.offset or self.axes or self.notes)


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
    """The values of the spatial axes, where there is one for each axis; else all of them."""
    if axes is None or len(values) != len(axes.kinds):
        return tuple(values)
    return tuple(values[index] for index in axes.of_kind(SPACE))


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
