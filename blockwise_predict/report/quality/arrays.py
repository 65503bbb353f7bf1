"""Sums up the sample of one array of a run's output."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from blockwise_predict.plan.parts import ArrayPlan
from blockwise_predict.report.blockgrid import BlockGrid
from blockwise_predict.report.quality.choose import Region, regions
from blockwise_predict.report.quality.sample import BlockSample, FaceSample
from blockwise_predict.report.quality.seams import Seams, find_seams
from blockwise_predict.report.quality.summary import (
    ChannelSummary,
    binned,
    kept_values,
    summarize,
)
from blockwise_predict.report.quality.suspicion import Suspicions
from blockwise_predict.report.trace import Floats, Trace

# Maximum number of channels of an array that are shown.
MAX_CHANNELS = 16


@dataclass(frozen=True)
class ChannelQuality:
    """A channel: its values over the ROI, a histogram with titles, and the seams by axis."""

    name: str
    whole: ChannelSummary
    counts: list[int]
    titles: list[str]
    seams: list[tuple[str, Seams]]


@dataclass(frozen=True)
class RegionQuality:
    """A region (its ROI in world units): its channels, and the share of clipped values."""

    where: str
    channels: list[tuple[str, ChannelSummary]]
    clipped: float


@dataclass(frozen=True)
class ArrayQuality:
    """An array: its channels (of `channels_in_all`), the range of their histograms, the share of
    clipped values (None without predicted blocks), regions, and how much was sampled."""

    name: str
    channels: list[ChannelQuality]
    channels_in_all: int
    span: tuple[float, float]
    clipped: float | None
    regions: list[RegionQuality]
    windows: int
    values: int
    faces: int


@dataclass(frozen=True)
class ArrayCheck:
    """What is known of an array, the one with this `number` of the output, but for its values."""

    array: ArrayPlan
    number: int
    grid: BlockGrid
    trace: Trace
    axis_names: tuple[str, ...]
    span: tuple[float, float]

    def quality(
        self, blocks: list[BlockSample], faces: list[FaceSample], suspicions: Suspicions
    ) -> ArrayQuality:
        """What is found in its sample; adds to the suspicions of blocks."""
        names, values = self.array.stored_names, self._values
        clipped, nonfinite = (
            counts[:, self.number] for counts in (self.trace.clipped, self.trace.nonfinite)
        )
        suspicions.add_counts(clipped, nonfinite, values)
        suspicions.add_samples(blocks, self.span[1] - self.span[0])
        seams = self._seams(faces, suspicions)
        return ArrayQuality(
            name=self.array.name,
            channels=list(self._channels(blocks, seams)),
            channels_in_all=len(names),
            span=self.span,
            clipped=_share(clipped, values),
            regions=[
                found for region in regions(self.grid) if (found := self._region(region, blocks))
            ],
            windows=len(blocks),
            values=sum(sample.voxels for sample in blocks) * len(names),
            faces=len(faces),
        )

    @property
    def _values(self) -> Floats:
        """Number of values that were written of each block."""
        values = self.grid.voxels * len(self.array.stored_names)
        return np.where(self.trace.predicted, values, 0.0)

    def _seams(self, faces: list[FaceSample], suspicions: Suspicions) -> dict[str, list[Seams]]:
        """The seams of each channel, by axis."""
        found = {}
        for axis in sorted({sample.face.axis for sample in faces}):
            across = [sample for sample in faces if sample.face.axis == axis]
            absolute = np.stack([sample.absolute for sample in across], axis=1)
            signed = np.stack([sample.signed for sample in across], axis=1)
            width, name = self.span[1] - self.span[0], self.axis_names[axis]
            found[name] = [find_seams(*pair, width) for pair in zip(absolute, signed, strict=True)]
            suspicions.add_seams(across, found[name], name)
        return found

    def _channels(
        self, blocks: list[BlockSample], seams: dict[str, list[Seams]]
    ) -> list[ChannelQuality]:
        found = []
        for number, name in enumerate(self.array.stored_names[:MAX_CHANNELS]):
            if (whole := summarize(blocks, number)) is not None:
                histogram = binned(kept_values(blocks, number), *self.span)
                own = [(axis, channels[number]) for axis, channels in seams.items()]
                found.append(ChannelQuality(name, whole, *histogram, own))
        return found

    def _region(self, region: Region, blocks: list[BlockSample]) -> RegionQuality | None:
        """A region; None if nothing of it was sampled."""
        inside = [one for one in blocks if region.holds(self.grid.index(one.block))]
        channels = [
            (name, summary)
            for number, name in enumerate(self.array.stored_names[:MAX_CHANNELS])
            if (summary := summarize(inside, number)) is not None
        ]
        box = tuple(slice(b, e) for b, e in zip(region.begin, region.end, strict=True))
        clipped, values = (
            one.reshape(self.grid.shape)[box]
            for one in (self.trace.clipped[:, self.number], self._values)
        )
        where = self.grid.bounds(region.begin, region.end)
        return RegionQuality(where, channels, _share(clipped, values) or 0.0) if channels else None


def _share(clipped: Floats, values: Floats) -> float | None:
    """The share of clipped values; None if none are written."""
    total = float(values.sum())
    return float(np.where(values > 0, clipped, 0).sum()) / total if total else None
