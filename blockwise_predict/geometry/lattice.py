"""The lattice on which forward passes begin, and the passes that cover a block.

A U-Net with valid padding is translation-equivariant only for shifts by its period P, the product
of its downsampling factors, because such shifts keep the max-pooling windows aligned. So every pass
lies on one global lattice, counted in voxels from the input array's own origin, whatever the ROI
and the blocks are. Along one axis, with u output voxels per input voxel:

      input    |<-------------- input_size ------------->|
               a                                             a = n*P - low // u
      output          |<----- output_size ---->|
                      b                                      b = a*u + low  =  phase + n*P*u
               |<low->|                        |<-high->|    phase = low mod u

Without super-resolution u = 1 and phase = 0: the output of every pass begins at a multiple of P.

The output of a network that is not equivariant (attention, same padding) depends on the position
and size of its tile. It gets one fixed tile size, on a lattice whose step is the tile's output
size, so that each voxel has one value whatever the ROI and the blocks are.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from funlib.geometry import Coordinate, Roi

from blockwise_predict.geometry.axis_tile import AxisTile
from blockwise_predict.geometry.overlap import OverlappingAxis


@dataclass(frozen=True)
class AxisLattice:
    """The lattice along one axis; sizes and positions as in the module's figure.

    period: distance between valid input sizes (input voxels).
    scale: output voxels per input voxel.
    low, high: output voxels lost on either side of a pass.
    step: distance between lattice points (output voxels).
    input_size: largest input of one pass (input voxels).
    fixed: whether all passes have `input_size`; otherwise a pass has the smallest sufficient size.
    trim, trim_high: voxels of `low` and `high` that are in the pass's output and dropped from it.
    """

    period: int
    scale: int
    low: int
    high: int
    step: int
    input_size: int
    fixed: bool = False
    trim: int = 0
    trim_high: int = 0

    @property
    def phase(self) -> int:
        """Output voxel of lattice point 0."""
        return self.low % self.scale

    def output_size(self, input_size: int) -> int:
        """Output voxels of a pass over `input_size` input voxels."""
        return input_size * self.scale - self.low - self.high

    def point_before(self, voxel: int) -> int:
        """The last lattice point at or before an output voxel."""
        return voxel - (voxel - self.phase) % self.step

    def input_begin(self, point: int) -> int:
        """First input voxel of the pass whose output begins at a lattice point."""
        return (point - self.low) // self.scale

    def size_for(self, wanted: int) -> int:
        """Smallest input size of a pass with at least `wanted` output voxels, or the largest."""
        if self.fixed:
            return self.input_size
        missing = self.output_size(self.input_size) - wanted
        spare = max(0, missing) // (self.period * self.scale)
        return self.input_size - spare * self.period

    def grown_for(self, wanted: int) -> int:
        """Smallest valid input size of a pass with at least `wanted` output voxels."""
        missing = wanted - self.output_size(self.input_size)
        return self.input_size + -(-missing // (self.period * self.scale)) * self.period

    def halved(self) -> AxisLattice | None:
        """The same lattice with passes of about half the output.

        None for a fixed axis, or if less than a period of output would remain.
        """
        cell = self.period * self.scale
        removed = (self.output_size(self.input_size) + cell) // 2 // cell
        if self.fixed or self.output_size(self.input_size) - removed * cell < cell or not removed:
            return None
        return replace(self, input_size=self.input_size - removed * self.period)

    def reversed(self) -> AxisLattice:
        """The lattice of a network that sees this axis reversed."""
        return replace(self, low=self.high, high=self.low, trim=self.trim_high, trim_high=self.trim)

    @property
    def _kept(self) -> int:
        """Output voxels kept from a pass of the largest size."""
        return self.step if self.fixed else self.output_size(self.input_size)

    @property
    def _advance(self) -> int:
        """Output voxels between the begins of consecutive passes over a range."""
        return self.step if self.fixed else self.stride

    def num_passes(self, begin: int, end: int) -> int:
        """Number of passes that cover the output voxels `begin .. end`."""
        if end <= begin:
            return 0
        beyond_first = end - self.point_before(begin) - self._kept
        return 1 + max(0, -(-beyond_first // self._advance))

    def nth_pass(self, begin: int, end: int, number: int) -> AxisTile:
        """One of the passes that cover the output voxels `begin .. end`, counted from 0.

        All but the last have the largest size.
        """
        point = self.point_before(begin) + number * self._advance
        size = self.size_for(end - point)
        return AxisTile(
            input_begin=self.input_begin(point),
            input_size=size,
            output_begin=point - self.trim,
            keep_begin=point - self._advance + self._kept if number else begin,
            keep_end=min(end, point + self._kept),
        )

    def cover(self, begin: int, end: int) -> list[AxisTile]:
        """Passes that cover the output voxels `begin .. end`; each is kept from one pass."""
        return [self.nth_pass(begin, end, n) for n in range(self.num_passes(begin, end))]

    def input_range(self, begin: int, end: int) -> tuple[int, int]:
        """Input voxels (half-open) that the passes over the output voxels `begin .. end` read."""
        last = self.nth_pass(begin, end, self.num_passes(begin, end) - 1)
        return self.input_begin(self.point_before(begin)), last.input_begin + last.input_size

    @property
    def stride(self) -> int:
        """Output voxels from one pass of the largest size to the next."""
        return self.output_size(self.input_size) // self.step * self.step

    def whole_passes(self, volume: int) -> tuple[int, int]:
        """The output voxels whose passes lie inside `volume` input voxels, as (begin, end).

        They are whole lattice cells, since the voxels of a cell share pooling windows. If there are
        none, `begin >= end`.
        """
        cell = self.size_for(self.step)
        first = self.point_before(self.low + self.step - 1)
        last_begin = volume - cell
        last = self.point_before(last_begin * self.scale + self.low)
        return first, last + self.step


@dataclass(frozen=True)
class Tile:
    """One forward pass; ROIs are in voxels from the input array's origin.

    read: its input (input voxels).
    keep: the part of its output that goes into the block (output voxels).
    crop: the same part, relative to the pass's first output voxel.
    """

    read: Roi
    keep: Roi
    crop: Roi


@dataclass(frozen=True)
class Lattice:
    """The lattice of a network and a tile size, over all axes.

    Where passes overlap, they all are kept, and their outputs blended.
    """

    axes: tuple[AxisLattice | OverlappingAxis, ...]

    @property
    def tile_shape(self) -> tuple[int, ...]:
        """Largest input of one pass (input voxels)."""
        return tuple(axis.input_size for axis in self.axes)

    @property
    def stride(self) -> tuple[int, ...]:
        """Output voxels from one pass of the largest size to the next."""
        return tuple(axis.stride for axis in self.axes)

    def halved(self, axes: Sequence[int]) -> Lattice | None:
        """The same lattice with the tile halved along the longest of `axes` that allows it."""
        for axis in sorted(axes, key=lambda a: -self.axes[a].input_size):
            smaller = self.axes[axis].halved()
            if smaller is not None:
                return Lattice((*self.axes[:axis], smaller, *self.axes[axis + 1 :]))
        return None

    def cover(self, block: Roi) -> Iterator[Tile]:
        """The passes that cover a block (output voxels), in C order.

        Each voxel is kept exactly once, or once from each of the passes that overlap there.
        """
        per_axis = [
            axis.cover(begin, end)
            for axis, begin, end in zip(self.axes, block.begin, block.end, strict=True)
        ]
        return map(_tile, itertools.product(*per_axis))

    def read_roi(self, block: Roi) -> Roi:
        """Input voxels that a block's passes read; may reach beyond the input array."""
        ranges = [
            axis.input_range(begin, end)
            for axis, begin, end in zip(self.axes, block.begin, block.end, strict=True)
        ]
        return Roi([begin for begin, _ in ranges], [end - begin for begin, end in ranges])

    def whole_passes(self, volume_shape: Sequence[int]) -> Roi | None:
        """The largest output ROI that needs no input beyond the volume, or None."""
        pairs = [a.whole_passes(n) for a, n in zip(self.axes, volume_shape, strict=True)]
        if any(end <= begin for begin, end in pairs):
            return None
        return Roi([b for b, _ in pairs], [e - b for b, e in pairs])


def _tile(axes: Sequence[AxisTile]) -> Tile:
    keep_begin = Coordinate(axis.keep_begin for axis in axes)
    keep_shape = Coordinate(axis.keep_end - axis.keep_begin for axis in axes)
    return Tile(
        read=Roi([axis.input_begin for axis in axes], [axis.input_size for axis in axes]),
        keep=Roi(keep_begin, keep_shape),
        crop=Roi(keep_begin - Coordinate(axis.output_begin for axis in axes), keep_shape),
    )
