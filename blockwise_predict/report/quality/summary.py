"""The sample of an array summed up: each channel over all of the ROI, and in each region of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from blockwise_predict.report.quality.sample import BlockSample
from blockwise_predict.report.trace import Floats

BINS = 64


@dataclass(frozen=True)
class ChannelSummary:
    """The values of a channel in some windows: extremes, median, mean, and the shares of values at
    the ends of the declared range, of voxels with the fill value in all channels, and of NaN and
    infinite values."""

    lowest: float
    median: float
    mean: float
    highest: float
    low_share: float
    high_share: float
    empty_share: float
    nonfinite_share: float


def summarize(samples: Sequence[BlockSample], channel: int) -> ChannelSummary | None:
    """A channel over the windows of some blocks; None if there are none with finite values."""
    some = [sample for sample in samples if np.isfinite(sample.means[channel])]
    if not some:
        return None
    voxels = np.array([sample.voxels for sample in some], np.float64)

    def mean(values: Sequence[float]) -> float:
        return float(np.average(values, weights=voxels))

    return ChannelSummary(
        lowest=float(min(sample.lowest[channel] for sample in some)),
        median=float(np.median(kept_values(some, channel))),
        mean=mean([sample.means[channel] for sample in some]),
        highest=float(max(sample.highest[channel] for sample in some)),
        low_share=mean([sample.low_share[channel] for sample in some]),
        high_share=mean([sample.high_share[channel] for sample in some]),
        empty_share=mean([sample.empty_share for sample in some]),
        nonfinite_share=mean([sample.nonfinite_share[channel] for sample in some]),
    )


def kept_values(samples: Sequence[BlockSample], channel: int) -> Floats:
    """The finite values of a channel that are kept of some windows."""
    values = np.concatenate([sample.kept[channel] for sample in samples]).astype(np.float64)
    return values[np.isfinite(values)]


def value_span(
    samples: Sequence[BlockSample], declared: tuple[float, float] | None
) -> tuple[float, float]:
    """The declared range of values, or that of the middle 98% of those that are kept."""
    if declared is not None:
        return declared
    parts = [sample.kept.ravel() for sample in samples] or [np.zeros(1, np.float32)]
    values = np.concatenate(parts).astype(np.float64)
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    low, high = np.percentile(values, [1, 99])
    return (float(low), float(high)) if high > low else (float(low), float(low) + 1.0)


def binned(values: Floats, low: float, high: float) -> tuple[list[int], list[str]]:
    """Numbers of values in BINS bins from `low` to `high`, those beyond in the outermost; and the
    titles of the bins."""
    counts, edges = np.histogram(np.clip(values, low, high), bins=BINS, range=(low, high))
    total = max(1, len(values))
    titles = [
        f"{first:.3g} to {last:.3g}: {count / total:.2%}"
        for first, last, count in zip(edges, edges[1:], counts, strict=False)
    ]
    return counts.tolist(), titles
