"""Where an xarray.DataArray lies: its dimensions name the axes, its coordinates place them.

As in OME-NGFF's translations, which such coordinates are usually made of, the first coordinate is
taken as the begin of the first voxel.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from blockwise_predict.errors import ArrayError
from blockwise_predict.io.given import Given
from blockwise_predict.io.statement import SPACE, TIME, Axes, Statement, axes_from_names
from blockwise_predict.io.timing import Timing, time_unit
from blockwise_predict.io.units import exact_number, scaled

# Of a step: float64 coordinates of a large volume agree to that, and no further.
_TOLERANCE = 1e-6
# What summing floats adds to a number, of its own size; decimals that are certainly not from it.
_NOISE = Fraction(1, 10**12)
_DIGITS = 9


def coordinate_statement(data: Any, given: Given) -> Statement:
    """What a DataArray's dimensions and coordinates say, unless the user says it.

    Raises ArrayError if only some spatial axes have coordinates, or if they are not evenly spaced.
    """
    names = [str(name) for name in data.dims]
    axes = axes_from_names(names, len(names))
    source = "the coordinates of the DataArray"
    if axes is None or (given.voxel_size is not None and given.offset is not None):
        return Statement(source, axes=axes)
    spatial = [names[index] for index in axes.of_kind(SPACE)]
    placed = [name for name in spatial if name in data.coords]
    timing = _timing(data, axes)
    if not placed:
        return Statement(source, axes=axes, timing=timing)
    if placed != spatial:
        missing = next(name for name in spatial if name not in placed)
        raise ArrayError(
            f"the DataArray has coordinates for {', '.join(placed)} and none for {missing}. Give "
            "each spatial axis some, or pass voxel_size and offset."
        )
    found = [_even(name, data.coords[name].values) for name in spatial]
    units = [data.coords[name].attrs.get("units") for name in spatial]
    size, notes = scaled(tuple(step for _, step in found), units, source)
    offset, _ = scaled(tuple(begin for begin, _ in found), units, source)
    return Statement(source, size, offset, source, source, axes, tuple(notes), timing)


def _timing(data: Any, axes: Axes) -> Timing | None:
    """When frames are, by the coordinates of the axis of time, if it has any and several frames."""
    names = [str(data.dims[index]) for index in axes.of_kind(TIME)]
    if len(names) != 1 or names[0] not in data.coords or data.sizes[names[0]] == 1:
        return None
    begin, interval = _even(names[0], data.coords[names[0]].values)
    return Timing(time_unit(data.coords[names[0]].attrs.get("units")), interval, begin)


def _even(name: str, values: np.ndarray[Any, Any]) -> tuple[Fraction, Fraction]:
    """Begin and step of coordinates."""
    what = f"the coordinate {name!r} of the DataArray"
    advice = "Pass voxel_size and offset, or give it evenly spaced coordinates."
    if values.ndim != 1 or len(values) < 2 or values.dtype.kind not in "iuf":
        raise ArrayError(f"{what} does not tell the distance of two voxels. {advice}")
    numbers = values.astype("float64")
    step = (numbers[-1] - numbers[0]) / (len(numbers) - 1)
    ideal = numbers[0] + step * np.arange(len(numbers))
    if not step > 0 or not (np.abs(numbers - ideal) <= _TOLERANCE * step).all():
        raise ArrayError(f"{what} is not evenly spaced, or does not ascend. {advice}")
    return _meant(float(numbers[0]), what), _meant(float(step), what)


def _meant(value: float, what: str) -> Fraction:
    """The number without what summing floats has added: 4.24, or 10/3."""
    number = exact_number(value, what)
    simple = number.limit_denominator(1000)
    if abs(simple - number) <= abs(number) * _NOISE:
        return simple
    return exact_number(round(value, _DIGITS), what)
