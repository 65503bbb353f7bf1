"""What arrays to read from and to write to have in common: a place in the world."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from funlib.geometry import Coordinate, Roi

from blockwise_predict.errors import ArrayError
from blockwise_predict.geometry.grid import Lengths, format_bounds
from blockwise_predict.io.describe import describe_array
from blockwise_predict.io.funlib_array import as_funlib
from blockwise_predict.io.placement import Placement
from blockwise_predict.io.storage import Storage

if TYPE_CHECKING:
    from funlib.persistence import Array


class Volume(ABC):
    """An array [C, *spatial] at an exact place in the world.

    With frames, time is the first of the spatial axes, in the unit `placement.time_unit`.
    Attributes: `path`; `format`; `shape` and `chunk_shape` (spatial axes, voxels); `channels` (None
    without a channel axis); `channel_names` (empty if they are not known); `dtype`; `placement`
    (and how it is known); `storage` (how the array is stored).
    """

    path: str
    format: str
    shape: tuple[int, ...]
    chunk_shape: tuple[int, ...]
    channels: int | None
    channel_names: tuple[str, ...]
    dtype: np.dtype[Any]
    placement: Placement
    storage: Storage

    @property
    def dims(self) -> int:
        """Number of spatial axes."""
        return len(self.shape)

    @property
    def voxel_size(self) -> Lengths:
        """Voxel size in nm, exact."""
        return self.placement.voxel_size

    @property
    def offset(self) -> Lengths:
        """Begin corner of voxel 0 in nm, exact."""
        return self.placement.offset

    @property
    def bounds(self) -> tuple[Lengths, Lengths]:
        """Begin and end corner in nm, exact."""
        return self.offset, self.placement.grid.world(self.shape)

    @property
    def roi(self) -> Roi:
        """The volume in nm. Raises ArrayError if its corners are not whole nm: see `bounds`."""
        begin, end = self.bounds
        if any(length.denominator != 1 for length in (*begin, *end)):
            raise ArrayError(
                f"{self.path} spans {format_bounds(begin, end)} {self.placement.grid.units}, and "
                "a Roi holds whole numbers only. `bounds` are the exact corners."
            )
        return Roi(begin, Coordinate(end) - Coordinate(begin))

    @property
    def array(self) -> Array:
        """The voxels as a funlib.persistence.Array: see `as_funlib`."""
        return as_funlib(self)

    @abstractmethod
    def read(self, begin: Sequence[int], end: Sequence[int]) -> np.ndarray[Any, Any]:
        """Voxels `begin` to `end` (half-open, within the array) as [C, *spatial], C=1 without
        a channel axis. Raises ValueError for voxels outside of the array.
        """

    def __repr__(self) -> str:
        rows = describe_array(self)
        width = max(len(label) for label, _ in rows)
        lines = (f"  {label:{width}}  {value}" for label, value in rows)
        return "\n".join((f"<{type(self).__name__}>", *lines))
