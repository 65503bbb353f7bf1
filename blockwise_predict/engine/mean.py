"""Predictions that are weighted means of several passes over the same voxels.

Passes are averaged after the activation, in float32, before values are encoded. The contributions
to a voxel, their weights and their order follow from the lattices alone, so a voxel has the same
value whatever the ROI, the blocks and the number of workers.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from funlib.geometry import Coordinate, Roi
from numpy.typing import NDArray

from blockwise_predict.engine.encode import encode
from blockwise_predict.engine.passes import OutputPlanes, Pass
from blockwise_predict.engine.predictor import (
    PredictedPart,
    PredictedRow,
    cut_planes,
    planes_roi,
    strips,
)
from blockwise_predict.engine.values import Part
from blockwise_predict.geometry.lattice import Lattice, Tile


@dataclass(frozen=True)
class ChannelMove:
    """Channels that are read from others: `targets[i]` at voxel v is `sources[i]` at v + shift.

    Targets count the channels that are predicted, sources those that the network gives.
    """

    shift: tuple[int, ...]
    targets: tuple[int, ...]
    sources: tuple[int, ...]


@dataclass(frozen=True)
class Member:
    """One of the predictions of which the mean is taken.

    moves: where its channels go; each channel is the target of one of them.
    window: weights of a tile's output `[*output]`, if its tiles overlap.
    mirrored: channels of the network whose sign changes, and the value of their zero.
    """

    network: Pass
    lattice: Lattice
    moves: tuple[ChannelMove, ...]
    window: torch.Tensor | None = None
    mirrored: tuple[tuple[int, float], ...] = ()

    def reach(self, block: Roi) -> Roi:
        """The output voxels of this member that a block needs."""
        reach = block
        for move in self.moves:
            reach = reach.union(block + Coordinate(move.shift))
        return reach

    def halved(self) -> Member | None:
        """The same with smaller tiles, if they can be smaller."""
        smaller = self.lattice.halved(self.network.axes[1:])
        return None if smaller is None else replace(self, lattice=smaller)


@dataclass(frozen=True)
class MemberLattices(Lattice):
    """The lattices of all members; `axes` are those of the first."""

    members: tuple[Member, ...]

    @classmethod
    def of(cls, members: Sequence[Member]) -> MemberLattices:
        """The lattices of some members."""
        return cls(members[0].lattice.axes, tuple(members))

    def read_roi(self, block: Roi) -> Roi:
        """Input voxels that a block's passes read, those of all members."""
        first, *others = [each.lattice.read_roi(each.reach(block)) for each in self.members]
        for other in others:
            first = first.union(other)
        return first


class MeanPredictor:
    """Predicts blocks as means of members; used as a `Predictor` is.

    A block's rows are handed out once all passes over the block are done.
    """

    def __init__(
        self,
        members: Sequence[Member],
        *,
        parts: Sequence[Part],
        row_shape: Sequence[int],
        device: torch.device,
    ) -> None:
        self.lattice: Lattice = MemberLattices.of(members)
        self._parts = tuple(parts)
        self._row_planes = row_shape[0]
        self._device = device

    @property
    def _sizes(self) -> list[int]:
        return [part.channels for part in self._parts]

    def predict(
        self, raw: NDArray[np.generic], read: Roi, block: Roi, lattice: Lattice
    ) -> Generator[PredictedRow]:
        """Predict a block; yields its rows. See `Predictor.predict`."""
        assert isinstance(lattice, MemberLattices)
        since = time.perf_counter()
        mean = self._mean(lattice.members, raw, read, block)
        for begin in range(0, block.shape[0], self._row_planes):
            row = self._encoded(mean[begin : begin + self._row_planes], block, begin)
            row.seconds = time.perf_counter() - since
            yield row
            since = time.perf_counter()

    def shrink(self, lattice: Lattice) -> bool:
        """Use smaller tiles after a block with `lattice` ran out of memory.

        Returns False if no member's tile can be smaller.
        """
        if self.lattice is lattice:
            assert isinstance(lattice, MemberLattices)
            smaller = [member.halved() for member in lattice.members]
            if not any(smaller):
                return False
            pairs = zip(smaller, lattice.members, strict=True)
            self.lattice = MemberLattices.of([half or member for half, member in pairs])
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        return True

    @torch.inference_mode()
    def _mean(
        self, members: Sequence[Member], raw: NDArray[np.generic], read: Roi, block: Roi
    ) -> torch.Tensor:
        """The mean of all members, `[*block, K]`."""
        sums = torch.zeros((*block.shape, sum(self._sizes)), device=self._device)
        for member in members:
            _Sum(member, block, sums).add(raw, read)
        return sums.div_(len(members))

    @torch.inference_mode()
    def _encoded(self, values: torch.Tensor, block: Roi, begin: int) -> PredictedRow:
        """The row of a block whose planes, from `begin` on, have these values `[n, *plane, K]`."""
        shape = Coordinate(values.shape[:-1])
        roi = Roi(block.begin + Coordinate(begin, *[0] * (len(shape) - 1)), shape)
        parts = []
        for part, own in zip(self._parts, values.split(self._sizes, dim=-1), strict=True):
            predicted = PredictedPart(np.empty((part.stored_channels, *shape), part.encoding.dtype))
            stored = torch.from_numpy(predicted.data).movedim(0, -1)
            for strip in strips(own):
                encoded = encode(own[strip], part.encoding)
                stored[strip].copy_(encoded.data)
                predicted.clipped += encoded.clipped
                predicted.nonfinite += encoded.nonfinite
            parts.append(predicted)
        return PredictedRow(roi, tuple(parts), missing=0)


class _Sum:
    """Adds one member's prediction of a block to `sums`, `[*block, K]`."""

    def __init__(self, member: Member, block: Roi, sums: torch.Tensor) -> None:
        self._member = member
        self._block = block
        self._sums = sums
        self._reach = member.reach(block)
        self._weights = None if member.window is None else self._sum_of_windows(member.window)

    def _sum_of_windows(self, window: torch.Tensor) -> torch.Tensor:
        """The sum of the windows of all tiles, over the member's reach."""
        total = torch.zeros(tuple(self._reach.shape), device=window.device)
        for tile in self._tiles():
            part = (tile.keep - self._reach.begin).to_slices()
            total[part] += window[tile.crop.to_slices()]
        return total

    def _tiles(self) -> Iterator[Tile]:
        return self._member.lattice.cover(self._reach)

    def add(self, raw: NDArray[np.generic], read: Roi) -> None:
        """Predict all tiles and add them; `raw` covers the input ROI `read`."""
        for tile in self._tiles():
            source = (tile.read - read.begin).to_slices()
            for planes in self._member.network.run(raw[(slice(None), *source)]):
                self._add_planes(planes, tile)

    def _add_planes(self, planes: OutputPlanes, tile: Tile) -> None:
        axes = self._member.network.axes
        crop = planes_roi(planes, axes).intersect(tile.crop)
        if crop.empty:
            return
        values = self._member.network.activate(cut_planes(planes, crop, axes))
        values = values.permute(*map(int, np.argsort(axes)), len(axes))
        for channel, zero in self._member.mirrored:
            values[..., channel] = 2 * zero - values[..., channel]
        place = crop + (tile.keep.begin - tile.crop.begin)
        if self._weights is not None and self._member.window is not None:
            weights = self._weights[(place - self._reach.begin).to_slices()]
            values *= (self._member.window[crop.to_slices()] / weights)[..., None]
        for move in self._member.moves:
            self._add_channels(values, place, move)

    def _add_channels(self, values: torch.Tensor, place: Roi, move: ChannelMove) -> None:
        """Add some channels of the values at the output voxels `place`."""
        target = (place - Coordinate(move.shift)).intersect(self._block)
        if target.empty:
            return
        part = values[(target + Coordinate(move.shift) - place.begin).to_slices()]
        sums = self._sums[(target - self._block.begin).to_slices()]
        if move.targets == move.sources == tuple(range(sums.shape[-1])):
            # The network may give further channels.
            sums += part[..., : sums.shape[-1]]
            return
        for channel, source in zip(move.targets, move.sources, strict=True):
            sums[..., channel] += part[..., source]
