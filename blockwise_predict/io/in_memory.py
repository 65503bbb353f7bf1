"""Arrays that Python users have in hand, read as those in storage are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from blockwise_predict.errors import ArrayError, shown
from blockwise_predict.io.adapters import Adapted, adapt
from blockwise_predict.io.funlib import LOOKED_FOR
from blockwise_predict.io.given import Given, given_lengths
from blockwise_predict.io.level_choice import open_array
from blockwise_predict.io.placement import ASSUMED_VOXELS, Placement, place
from blockwise_predict.io.source import InputArray, read_as, spatial_window
from blockwise_predict.io.statement import CHANNEL, SPACE, Axes, Statement, axes_from_names
from blockwise_predict.io.storage import Storage
from blockwise_predict.io.volume import Volume


class MemoryArray(Volume):
    """An array of another library, made by `open_in_memory`; read as an `InputArray` is.

    `path` names its kind, and `format` its library. Safe to read from several threads, if the
    array itself is.
    """

    def __init__(self, adapted: Adapted, placement: Placement, axes: Axes) -> None:
        channel = axes.of_kind(CHANNEL)
        volume = axes.of_volume(with_time=placement.time_unit is not None)
        self._order = (*channel, *volume)
        self.path = adapted.name
        self.format = adapted.library
        self.placement = placement
        self.storage = Storage(
            axes=axes,
            shape=adapted.shape,
            dtype=adapted.dtype.name,
            chunk_shape=adapted.chunk_shape,
            shard_shape=None,
            compression="none",
        )
        self.shape = tuple(adapted.shape[axis] for axis in volume)
        self.chunk_shape = tuple(adapted.chunk_shape[axis] for axis in volume)
        self.channels = adapted.shape[channel[0]] if channel else None
        self.channel_names = ()
        self.dtype = np.dtype(read_as(adapted.dtype.name, adapted.name))
        self.fill_value: np.generic = self.dtype.type(adapted.fill_value)
        said = [adapted.library, adapted.shape, adapted.dtype.str]
        self.metadata_sha256 = hashlib.sha256(json.dumps(said).encode()).hexdigest()
        self._adapted = adapted

    def current_sha256(self) -> str:
        """`metadata_sha256`: what is in this process's hands does not change its kind."""
        return self.metadata_sha256

    def is_stored(self, begin: Sequence[int], end: Sequence[int]) -> bool:
        """Whether every voxel of `begin .. end` is stored, as far as its library tells."""
        return self._adapted.is_stored(self._window(begin, end))

    def read(self, begin: Sequence[int], end: Sequence[int]) -> np.ndarray[Any, Any]:
        """Voxels `begin` to `end` (half-open, within the array) as [C, *spatial], C=1 without
        a channel axis. Raises ValueError for voxels outside of the array.
        """
        data = self._adapted.read(self._window(begin, end))
        others = [axis for axis in range(data.ndim) if axis not in self._order]
        data = data.transpose(*others, *self._order)[(0,) * len(others)]
        if self.channels is None:
            data = data[None]
        return np.ascontiguousarray(data, self.dtype)

    def _window(self, begin: Sequence[int], end: Sequence[int]) -> tuple[slice, ...]:
        """The slices of the array's own axes; the only frame of a time axis without a part."""
        spatial = spatial_window(begin, end, self.shape, self.path)
        channels = () if self.channels is None else (slice(0, self.channels),)
        wanted = dict(zip(self._order, (*channels, *spatial), strict=True))
        return tuple(wanted.get(axis, slice(0, 1)) for axis in range(len(self.storage.shape)))


def open_in_memory(
    data: Any,
    *,
    voxel_size: str | Sequence[object] | None = None,
    offset: str | Sequence[object] | None = None,
    axis_names: Sequence[str] | None = None,
) -> InputArray | MemoryArray:
    """Take a numpy, dask, zarr, tensorstore, funlib.persistence or xarray array for reading.

    What is given here overrides what the array says of itself: `voxel_size` and `offset` in nm, as
    `open_array` takes them; `axis_names` for each of its axes, a channel's ending in `^`. Arrays
    that have no place of their own count voxels: 1 nm each, from 0 on. A zarr array must say its
    voxel size; on a disk it is opened by its path.
    Nothing is read yet. Raises ArrayError for any other object, and as `open_array`.
    """
    given = given_lengths(voxel_size, offset)
    adapted = adapt(data, given)
    if adapted.library == "zarr-python" and adapted.name.startswith("file://") and not axis_names:
        return open_array(adapted.name, voxel_size=voxel_size, offset=offset)
    found = [*_named(adapted, axis_names), *adapted.statements]
    if given.voxel_size is None and not adapted.must_say:
        found = [*found, *_assumed(adapted, found)]
    return place_adapted(adapted, given, found, LOOKED_FOR)


def place_adapted(
    adapted: Adapted, given: Given, found: list[Statement], looked_for: str
) -> MemoryArray:
    """The array at the place that the user, or else the statements `found`, give it.

    Raises ArrayError without a voxel size (naming what was `looked_for`), for contradictions, and
    for an empty array.
    """
    if 0 in adapted.shape:
        raise ArrayError(f"{adapted.name} is empty: its shape is {adapted.shape}.")
    placement, axes = place(adapted.name, adapted.shape, given, found=found, looked_for=looked_for)
    named = [statement.axes for statement in found if statement.axes is not None]
    if named and axes not in named:
        raise ArrayError(
            f"{adapted.name} has the axes {', '.join(named[0].names)}; "
            f"{placement.voxel_size_source} has {len(placement.voxel_size)} values. Give one for "
            "each spatial axis."
        )
    return MemoryArray(adapted, placement, axes)


def _named(adapted: Adapted, names: Sequence[str] | None) -> list[Statement]:
    if names is None:
        return []
    axes = axes_from_names(list(names), len(adapted.shape))
    if axes is None:
        raise ArrayError(
            f"axis_names={shown(names)}: name each of the {len(adapted.shape)} axes of "
            f'{adapted.name}, for example ["c^", "z", "y", "x"].'
        )
    return [Statement("axis_names", axes=axes)]


def _assumed(adapted: Adapted, found: list[Statement]) -> list[Statement]:
    """Voxels of 1 nm, if nothing else is known."""
    if any(statement.voxel_size is not None for statement in found):
        return []
    axes = next((statement.axes for statement in found if statement.axes is not None), None)
    dims = len(axes.of_kind(SPACE)) if axes else min(3, len(adapted.shape))
    ones = (Fraction(1),) * dims
    return [Statement("", ones, voxel_size_source=ASSUMED_VOXELS)]
