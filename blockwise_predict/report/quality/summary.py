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
    """The values of a channel in some windows: extremes, median and mean of the finite ones, NaN if
    there are none; and the shares of values at the ends of the declared range, of voxels with the
    fill value in all channels, and of NaN and infinite values."""

    lowest: float
    median: float
    mean: float
    highest: float
    low_share: float
    high_share: float
    empty_share: float
    nonfinite_share: float


def summarize(samples: Sequence[BlockSample], channel: int) -> ChannelSummary | None:
    """A channel over the windows of some blocks; None if there are no windows."""
    if not samples:
        return None
    voxels = np.array([sample.voxels for sample in samples], np.float64)

    def share(values: Sequence[float]) -> float:
        return float(np.average(values, weights=voxels))

    lowest, median, mean, highest = _finite(samples, channel)
    return ChannelSummary(
        lowest=lowest,
        median=median,
        mean=mean,
        highest=highest,
        low_share=share([sample.low_share[channel] for sample in samples]),
        high_share=share([sample.high_share[channel] for sample in samples]),
        empty_share=share([sample.empty_share for sample in samples]),
        nonfinite_share=share([sample.nonfinite_share[channel] for sample in samples]),
    )


def _finite(samples: Sequence[BlockSample], channel: int) -> tuple[float, float, float, float]:
    """The lowest, the median, the mean and the highest finite value; NaN if there are none."""
    some = [sample for sample in samples if np.isfinite(sample.means[channel])]
    if not some:
        return (float("nan"),) * 4
    kept = kept_values(some, channel)
    weights = [sample.voxels * (1 - sample.nonfinite_share[channel]) for sample in some]
    return (
        float(min(sample.lowest[channel] for sample in some)),
        # The few values that are kept of a window may all be among its NaN.
        float(np.median(kept)) if kept.size else float("nan"),
        float(np.average([sample.means[channel] for sample in some], weights=weights)),
        float(max(sample.highest[channel] for sample in some)),
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
