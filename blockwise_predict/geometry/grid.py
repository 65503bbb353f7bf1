"""World units and voxels, converted exactly, so that no rounding can shift a volume.

Lengths are `fractions.Fraction` in nanometres, because real voxel sizes need not be integers
(4.24 x 4 x 4); all computation is in whole voxels. Axes are (z, y, x), or
(y, x) in 2-D. A ROI is half-open, `[begin, end)`.

Time, if there is any, is one more axis, before the spatial ones: (t, z, y, x). Its "lengths" are
the frame interval and points in time, in the unit of the data's time axis.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor
from typing import Self

from funlib.geometry import Coordinate, Roi

from blockwise_predict.errors import GeometryError, shown

Lengths = tuple[Fraction, ...]
Bounds = tuple[tuple[Fraction | None, Fraction | None], ...]

_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?|[-+]?\d+/\d+")
_EXPONENT = re.compile(r"[eE][-+]?0*(\d+)")
# Limits on a number's text and exponent: a length in nm needs far less, and `1e999999999` would use
# up all memory.
MAX_CHARACTERS = 200
MAX_EXPONENT = 300
# What a ROI's text is in, along time: it is read before the data are.
TIME_UNIT = "the unit of the data's time axis"


def exact(value: object) -> Fraction:
    """The number exactly as written: `4.24` is 106/25, not the nearest binary fraction.

    Raises ValueError unless it is a finite number with a reasonable number of digits.
    """
    if isinstance(value, Fraction):
        return value
    text = str(value).strip()
    exponent = _EXPONENT.search(text)
    if len(text) > MAX_CHARACTERS or (exponent and int(exponent[1]) > MAX_EXPONENT):
        raise ValueError(f"{text[:20]}... has too many digits")
    try:
        return Fraction(text)
    except ZeroDivisionError:
        raise ValueError(f"{text} divides by zero") from None


def exact_lengths(values: Iterable[object]) -> Lengths:
    """The exact values; see `exact`."""
    return tuple(exact(value) for value in values)


def format_length(value: Fraction) -> str:
    """The shortest decimal that is exactly the value, or else a ratio."""
    if value.denominator == 1:
        return str(value.numerator)
    try:
        text = repr(float(value))
    except OverflowError:
        return f"{value.numerator}/{value.denominator}"
    return text if Fraction(text) == value else f"{value.numerator}/{value.denominator}"


def format_lengths(values: Iterable[Fraction]) -> str:
    """Lengths as people write them: `4.24 x 4 x 4`."""
    return " x ".join(format_length(value) for value in values)


def format_sizes(sizes: Sequence[Fraction], time_unit: str | None) -> str:
    """Voxel sizes or an offset with units: `4.24 x 4 x 4 nm`, with time `t 0.5 second, 4 x 4 nm`.

    `time_unit` is None without a time axis, and empty if the unit is not known.
    """
    if time_unit is None:
        return f"{format_lengths(sizes)} nm"
    time = f"t {format_length(sizes[0])} {time_unit}".rstrip()
    return f"{time}, {format_sizes(sizes[1:], None)}"


def unit_names(dims: int, time_unit: str | None) -> str:
    """The units of the axes, as they follow a ROI: `nm`, with time `(second, nm, nm, nm)`."""
    if time_unit is None:
        return "nm"
    return f"({', '.join([time_unit or 'no unit', *['nm'] * (dims - 1)])})"


def format_bounds(begin: Sequence[Fraction], end: Sequence[Fraction]) -> str:
    """A ROI as the command line reads it: `[0:100,0:100,0:100]`."""
    pairs = (f"{format_length(b)}:{format_length(e)}" for b, e in zip(begin, end, strict=True))
    return f"[{','.join(pairs)}]"


def format_shape(shape: Sequence[int]) -> str:
    """A shape as options are written: `64,64,64`."""
    return ",".join(str(size) for size in shape)


def parse_bounds(text: str) -> Bounds:
    """Read `[z0:z1,y0:y1,x0:x1]` in nm; any bound may be left out (`None`).

    Of four axes the first is time, in the unit of the data. Raises GeometryError for anything else,
    and for an axis that ends before it begins.
    """
    body = text.strip().removeprefix("[").removesuffix("]")
    axes = [axis.strip() for axis in body.split(",")]
    units = [TIME_UNIT if len(axes) == 4 and not place else "nm" for place in range(len(axes))]
    return tuple(_parse_axis(axis, text, unit) for axis, unit in zip(axes, units, strict=True))


def _parse_axis(axis: str, text: str, unit: str) -> tuple[Fraction | None, Fraction | None]:
    parts = [part.strip() for part in axis.split(":")]
    if len(parts) != 2:
        raise _not_bounds(axis, text, unit)
    begin, end = (_parse_bound(part, axis, text, unit) for part in parts)
    if begin is not None and end is not None and end <= begin:
        raise GeometryError(
            f"ROI {shown(text)}: {shown(axis)} is empty, its end is not after its begin. "
            f"A ROI is half-open: [0:100] has 100 {'nm' if unit == 'nm' else 'units of time'}."
        )
    return begin, end


def _parse_bound(part: str, axis: str, text: str, unit: str) -> Fraction | None:
    if not part:
        return None
    try:
        if _NUMBER.fullmatch(part):
            return exact(part)
    except ValueError as error:
        raise _not_bounds(axis, text, unit, f" ({error})") from None
    raise _not_bounds(axis, text, unit)


def _not_bounds(axis: str, text: str, unit: str, why: str = "") -> GeometryError:
    example = "[1000:2000,0:5000,:]" if unit == "nm" else "[0:60,1000:2000,0:5000,:]"
    return GeometryError(
        f"ROI {shown(text)}: {shown(axis)} is not BEGIN:END in {unit}{why}. "
        f"Write for example {example} (a bound that is left out is the volume's)."
    )


@dataclass(frozen=True)
class RequestedRoi:
    """A ROI as it was asked for: its text, and the `bounds` (nm) that were read from it."""

    text: str
    bounds: Bounds

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `[z0:z1,y0:y1,x0:x1]`. Raises GeometryError as `parse_bounds` does."""
        return cls(text, parse_bounds(text))

    @classmethod
    def around(cls, rois: Sequence[RequestedRoi]) -> Self:
        """The smallest ROI that contains all of these; a bound that one leaves out is left out.

        Raises GeometryError if they differ in their number of axes.
        """
        first = rois[0]
        if others := [roi for roi in rois if len(roi.bounds) != len(first.bounds)]:
            raise GeometryError(f"ROIs {first} and {others[0]} differ in their number of axes.")
        bounds = []
        for axis in zip(*(roi.bounds for roi in rois), strict=True):
            lows = [low for low, _ in axis if low is not None]
            highs = [high for _, high in axis if high is not None]
            low = min(lows) if len(lows) == len(axis) else None
            bounds.append((low, max(highs) if len(highs) == len(axis) else None))
        texts = [":".join("" if x is None else format_length(x) for x in axis) for axis in bounds]
        return cls(f"[{','.join(texts)}]", tuple(bounds))

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class VoxelGrid:
    """A voxel grid: along an axis, voxel i spans `size` nm from `offset + i*size` on.

    `time_unit` is the unit of the first axis if that is time: its voxels are frames. It is None
    without a time axis, and empty if the unit is not known.
    """

    voxel_size: Lengths
    offset: Lengths
    time_unit: str | None = None

    def __post_init__(self) -> None:
        if len(self.voxel_size) != len(self.offset):
            raise GeometryError(
                f"voxel size {format_lengths(self.voxel_size)} and offset "
                f"{format_lengths(self.offset)} differ in their number of axes."
            )
        if any(size <= 0 for size in self.voxel_size):
            raise GeometryError(
                f"voxel size {format_lengths(self.voxel_size)}: every axis must be positive."
            )

    @property
    def dims(self) -> int:
        """Number of axes."""
        return len(self.voxel_size)

    @property
    def has_time(self) -> bool:
        """Whether the first axis is time."""
        return self.time_unit is not None

    def divided(self, scale: Sequence[int]) -> VoxelGrid:
        """The grid of a super-resolution output: `scale` voxels for each voxel of this one."""
        sizes = tuple(size / factor for size, factor in zip(self.voxel_size, scale, strict=True))
        return VoxelGrid(sizes, self.offset, self.time_unit)

    @property
    def units(self) -> str:
        """The units of the axes, as they follow a ROI: see `unit_names`."""
        return unit_names(self.dims, self.time_unit)

    def world(self, voxel: Sequence[int]) -> Lengths:
        """World position (nm) of the low corner of a voxel."""
        return tuple(o + v * s for o, v, s in zip(self.offset, voxel, self.voxel_size, strict=True))

    def world_bounds(self, roi: Roi) -> str:
        """A ROI in voxels, formatted in nm."""
        return format_bounds(self.world(roi.begin), self.world(roi.end))

    def voxel_roi(self, bounds: Bounds, volume: Roi) -> tuple[Roi, bool]:
        """The voxels that `bounds` (nm) touch, and whether any bound was snapped outward.

        Open bounds are those of `volume` (voxels). The result is not clipped. Raises GeometryError
        if the number of axes differs.
        """
        if len(bounds) != self.dims:
            raise GeometryError(
                f"the ROI has {len(bounds)} axes, the volume has {self.dims}: "
                f"write one BEGIN:END per axis, for example {self.world_bounds(volume)}"
                f"{f' {self.units}' if self.has_time else ''}."
            )
        begin, end, moved = [], [], False
        for axis, (low, high) in enumerate(bounds):
            low_voxel = self._position(low, axis, Fraction(volume.begin[axis]))
            high_voxel = self._position(high, axis, Fraction(volume.end[axis]))
            begin.append(floor(low_voxel))
            end.append(ceil(high_voxel))
            moved |= low_voxel.denominator != 1 or high_voxel.denominator != 1
        return Roi(begin, Coordinate(end) - Coordinate(begin)), moved

    def _position(self, world: Fraction | None, axis: int, default: Fraction) -> Fraction:
        if world is None:
            return default
        return (world - self.offset[axis]) / self.voxel_size[axis]


def resolve_roi(
    requested: RequestedRoi | None, grid: VoxelGrid, volume: Roi
) -> tuple[Roi, list[str]]:
    """The output ROI in voxels of `grid`, and notes for the user on how it was adjusted.

    Without a `requested` ROI it is the whole `volume` (voxels). A ROI off the voxel grid is snapped
    outward; what lies outside the volume is cut off. Raises GeometryError if nothing is left.
    """
    if requested is None:
        return volume, []
    wanted, moved = grid.voxel_roi(requested.bounds, volume)
    notes = []
    if moved:
        notes.append(
            f"ROI {requested} is off the voxel grid: snapped outward to {grid.world_bounds(wanted)}"
        )
    if any(e <= b for b, e in zip(wanted.begin, wanted.end, strict=True)) or not (
        wanted.intersects(volume)
    ):
        raise GeometryError(
            f"ROI {requested} misses the volume{_missed(wanted, volume, grid)}, which spans "
            f"{grid.world_bounds(volume)} {grid.units}."
        )
    roi = wanted.intersect(volume)
    if roi != wanted:
        notes.append(
            f"ROI {requested} reaches beyond the volume: cut to {grid.world_bounds(roi)} "
            f"(the volume spans {grid.world_bounds(volume)})"
        )
    return roi, notes


def _missed(wanted: Roi, volume: Roi, grid: VoxelGrid) -> str:
    """Where a ROI misses a volume with a time axis: in time, or in space."""
    if not grid.has_time:
        return ""
    begin = max(wanted.begin[0], volume.begin[0])
    return " in space" if begin < min(wanted.end[0], volume.end[0]) else " in time"
