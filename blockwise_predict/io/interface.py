"""What the rest of the package may ask of an array, wherever its voxels are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from blockwise_predict.io.placement import Placement
from blockwise_predict.io.storage import Storage


class GappedArray(Protocol):
    """Voxels [C, *spatial], in chunks of which some may not be stored.

    `fill_value` stands for voxels that are not.
    """

    path: str
    shape: tuple[int, ...]
    chunk_shape: tuple[int, ...]
    channels: int | None
    dtype: np.dtype[Any]
    fill_value: np.generic

    def read(self, begin: Sequence[int], end: Sequence[int]) -> np.ndarray[Any, Any]:
        """Voxels `begin` to `end` (half-open, within the array), C=1 without a channel axis."""

    def is_stored(self, begin: Sequence[int], end: Sequence[int]) -> bool:
        """Whether every chunk with a voxel of `begin .. end` is stored (it may be damaged)."""


class PlacedArray(Protocol):
    """Voxels [C, *spatial], in C order, at an exact place in the world."""

    path: str
    format: str
    shape: tuple[int, ...]
    chunk_shape: tuple[int, ...]
    channels: int | None
    channel_names: tuple[str, ...]
    dtype: np.dtype[Any]
    placement: Placement
    storage: Storage

    def read(self, begin: Sequence[int], end: Sequence[int]) -> np.ndarray[Any, Any]:
        """Voxels `begin` to `end` (half-open, within the array), C=1 without a channel axis."""


class BlockSource(PlacedArray, GappedArray, Protocol):
    """What blocks are read from: an array in storage or in memory, which may have gaps.

    `metadata_sha256` is of what said how the array is stored, when it was opened.
    """

    metadata_sha256: str

    def current_sha256(self) -> str:
        """`metadata_sha256` as it is now. Raises ArrayError if the array is no longer there."""
