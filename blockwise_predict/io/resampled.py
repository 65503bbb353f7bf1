"""Arrays whose voxels are resampled, box by box, as they are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from blockwise_predict.errors import ArrayError
from blockwise_predict.geometry.grid import Lengths, format_lengths
from blockwise_predict.geometry.resampling import AxisResampling, resample
from blockwise_predict.io.interface import BlockSource
from blockwise_predict.io.source import spatial_window
from blockwise_predict.io.volume import Volume

Voxels = tuple[int, ...]
Read = Callable[[Voxels, Voxels], np.ndarray[Any, Any]]


class ResampledArray(Volume):
    """The array `source`, resampled to a voxel size (nm; of frames the interval first).

    It begins where the source does, and has the voxels whose centres lie in it; see
    `geometry.resampling`. Values are float32 (float64 where that holds the source's type only).
    `chunk_shape` is about that of the source's chunks; `storage`, `metadata_sha256` and what is
    stored are the source's own. Raises ArrayError if no voxel is left along an axis.
    """

    def __init__(self, source: BlockSource, voxel_size: Lengths) -> None:
        placement = source.placement
        ratios = (new / old for new, old in zip(voxel_size, placement.voxel_size, strict=True))
        self._axes = [AxisResampling(*pair) for pair in zip(source.shape, ratios, strict=True)]
        self.source = source
        self.path, self.format = source.path, source.format
        self.shape = tuple(axis.resampled_size for axis in self._axes)
        if 0 in self.shape:
            raise ArrayError(
                f"{source.path} is too thin to be resampled to voxels of "
                f"{format_lengths(voxel_size)} nm: it has {source.shape} of "
                f"{format_lengths(placement.voxel_size)} nm."
            )
        self.chunk_shape = tuple(
            axis.resampled_length(chunk)
            for axis, chunk in zip(self._axes, source.chunk_shape, strict=True)
        )
        self.channels, self.channel_names = source.channels, source.channel_names
        self.dtype = np.result_type(source.dtype, np.float32)
        self.fill_value: np.generic = self.dtype.type(source.fill_value)
        self.placement = replace(placement, voxel_size=voxel_size)
        self.storage = source.storage
        self.metadata_sha256 = source.metadata_sha256

    def current_sha256(self) -> str:
        """The source's digest as it is now. Raises ArrayError if it is no longer there."""
        return self.source.current_sha256()

    def is_stored(self, begin: Sequence[int], end: Sequence[int]) -> bool:
        """Whether every chunk of the source is stored that counts for `begin .. end`."""
        return self.source.is_stored(*self.stored_box(begin, end))

    def stored_box(self, begin: Sequence[int], end: Sequence[int]) -> tuple[Voxels, Voxels]:
        """The source's voxels that count for the voxels `begin .. end`."""
        axes = zip(self._axes, begin, end, strict=True)
        ranges = [axis.stored_range(int(b), int(e)) for axis, b, e in axes]
        return tuple(low for low, _ in ranges), tuple(high for _, high in ranges)

    def read(self, begin: Sequence[int], end: Sequence[int]) -> np.ndarray[Any, Any]:
        return self.read_by(self.source.read, begin, end)

    def read_by(self, read: Read, begin: Sequence[int], end: Sequence[int]) -> np.ndarray[Any, Any]:
        """Voxels as from `read`, from what `read` gives of the source."""
        window = spatial_window(begin, end, self.shape, self.path)
        stored = read(*self.stored_box(begin, end))
        axes = zip(self._axes, window, strict=True)
        taps = [axis.taps(part.start, part.stop) for axis, part in axes]
        return resample(stored, taps, self.dtype)

    @property
    def voxel_bytes(self) -> int:
        """About the bytes in memory for each voxel that is read: its own, and the source's."""
        stored = prod(axis.ratio for axis in self._axes) * self.source.dtype.itemsize
        return (self.dtype.itemsize + round(stored)) * (self.channels or 1)


def stored_array(array: BlockSource) -> BlockSource:
    """The array itself, or the one that it is resampled from."""
    return array.source if isinstance(array, ResampledArray) else array


def stored_box(
    array: BlockSource, begin: Sequence[int], end: Sequence[int]
) -> tuple[BlockSource, Voxels, Voxels]:
    """`stored_array`, and its voxels that count for the voxels `begin .. end` of an array."""
    if isinstance(array, ResampledArray):
        return array.source, *array.stored_box(begin, end)
    return array, tuple(begin), tuple(end)
