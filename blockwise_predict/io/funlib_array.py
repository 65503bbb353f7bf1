"""Arrays as funlib.persistence hands them to Python users: dask arrays that know their place.

funlib's coordinates are whole numbers. A volume whose voxel size and offset are not whole
nanometres is therefore placed in picometres, or femtometres; the array's `units` name them.
"""

from __future__ import annotations

import uuid
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from blockwise_predict.errors import ArrayError
from blockwise_predict.geometry.grid import Lengths, format_length, format_lengths
from blockwise_predict.io.interface import PlacedArray
from blockwise_predict.io.placement import Placement
from blockwise_predict.io.statement import CHANNEL, SPACE, TIME
from blockwise_predict.io.timing import whole_timing

if TYPE_CHECKING:
    from funlib.persistence import Array

# dask walks through all chunks for each read: 0.1 s for this many, 10 s for a million.
MAX_DASK_CHUNKS = 10_000
# Parts of a nanometre.
_UNITS = {"nm": 1, "pm": 10**3, "fm": 10**6}


def as_funlib(array: PlacedArray) -> Array:
    """The array as a read-only `funlib.persistence.Array`, [C, *spatial], or [*spatial] if it has
    no channel axis. Nothing is read before it is asked for.

    Lengths are in nm; in pm or fm if nm would cut off a fraction; times likewise in parts of their
    unit. Raises ArrayError if even the smallest would (10/3 nm).
    """
    from funlib.persistence import Array

    placement = array.placement
    units = _whole_units(array.path, placement)
    factors = [factor for _, factor in units]
    has_channels = array.channels is not None
    frames = [TIME] * placement.grid.has_time
    return Array(
        LazyVoxels(array),
        offset=_scaled(placement.offset, factors),
        voxel_size=_scaled(placement.voxel_size, factors),
        axis_names=[*["c^"] * has_channels, *placement.axis_names],
        units=[unit for unit, _ in units],
        types=[*[CHANNEL] * has_channels, *frames, *[SPACE] * (len(units) - len(frames))],
        chunks=(*([array.channels] if has_channels else []), *_dask_chunks(array)),
    )


def _scaled(lengths: Lengths, factors: list[int]) -> list[int]:
    return [int(length * factor) for length, factor in zip(lengths, factors, strict=True)]


def _whole_units(path: str, placement: Placement) -> list[tuple[str, int]]:
    """For each axis a unit in which its lengths are whole, and how many of it are in its own."""
    size, offset, unit = placement.voxel_size, placement.offset, placement.time_unit
    if unit is None:
        return [_whole_unit(path, placement)] * len(size)
    space = replace(placement, voxel_size=size[1:], offset=offset[1:], time_unit=None)
    time = whole_timing((size[0], offset[0]), unit)
    if time is None:
        raise ArrayError(
            f"{path} has frames {format_length(size[0])} {unit} apart from "
            f"{format_length(offset[0])} on. funlib.persistence places arrays by whole numbers "
            "only. Use `read`, with `voxel_size` and `offset`, which are exact."
        )
    return [time, *_whole_units(path, space)]


def _whole_unit(path: str, placement: Placement) -> tuple[str, int]:
    lengths = (*placement.voxel_size, *placement.offset)
    for unit, factor in _UNITS.items():
        if all((length * factor).denominator == 1 for length in lengths):
            return unit, factor
    raise ArrayError(
        f"{path} has voxels of {format_lengths(placement.voxel_size)} nm from "
        f"{format_lengths(placement.offset)} nm on. funlib.persistence places arrays by whole "
        f"numbers only, and these are whole in none of {', '.join(_UNITS)}. Use `read`, with "
        "`voxel_size` and `offset`, which are exact."
    )


def _dask_chunks(array: PlacedArray) -> tuple[int, ...]:
    """Whole chunks of the array, as many together as it takes to keep dask's graph small.

    What is read is unaffected: dask passes slices on to the array.
    """
    chunks = list(array.chunk_shape)
    while True:
        counts = [-(-n // chunk) for n, chunk in zip(array.shape, chunks, strict=True)]
        if prod(counts) <= MAX_DASK_CHUNKS:
            return tuple(chunks)
        chunks[counts.index(max(counts))] *= 2


class LazyVoxels:
    """An array's voxels as dask reads them: by shape, dtype and index."""

    def __init__(self, array: PlacedArray) -> None:
        self.dtype = array.dtype
        self.shape = array.shape if array.channels is None else (array.channels, *array.shape)
        self.ndim = len(self.shape)
        self._array = array
        # Not the path: what is there can change, and arrays in memory have none.
        self._token = uuid.uuid4().hex

    def __dask_tokenize__(self) -> str:
        return self._token

    def __getitem__(self, index: tuple[Any, ...]) -> np.ndarray[Any, Any]:
        """Voxels by a slice, a number or a list of numbers for each axis, which dask makes of what
        its users ask for."""
        places = [np.arange(n)[part] for n, part in zip(self.shape, index, strict=True)]
        if not all(place.size for place in places):
            return np.empty([n for place in places for n in place.shape], self.dtype)
        begin = [int(place.min()) for place in places]
        end = [int(place.max()) + 1 for place in places]
        if self._array.channels is None:
            data = self._array.read(begin, end)[0]
        else:
            data = self._array.read(begin[1:], end[1:])[begin[0] : end[0]]
        # The last axis first: a single number takes its axis away.
        for axis in reversed(range(self.ndim)):
            data = data[(slice(None),) * axis + (places[axis] - begin[axis],)]
        return data
