"""What a page says of the quality of an output."""

from __future__ import annotations

from math import isnan
from typing import Any

from markupsafe import Markup

from blockwise_predict.config.quantities import format_bytes
from blockwise_predict.report.charts.plots import histogram
from blockwise_predict.report.quality.arrays import ChannelQuality
from blockwise_predict.report.quality.check import Quality
from blockwise_predict.report.quality.sample import EDGE, SAMPLE_BYTES
from blockwise_predict.report.quality.seams import AXIS_ERRORS, AXIS_FACTOR, FACE_FACTOR
from blockwise_predict.report.quality.summary import ChannelSummary
from blockwise_predict.report.quality.suspicion import (
    CLIPPED_SHARE,
    CLIPPED_TIMES,
    MEAN_DEVIATIONS,
    SATURATED_SHARE,
    USUAL_SHARE,
)
from blockwise_predict.report.record import RunRecord

SUMMARY_NAMES = ("min", "median", "mean", "max", "at lowest", "at highest", "empty", "NaN, inf")
MEASURES = (
    "A block's suspicion is the largest of the following measures; from 1 on it is listed. None of "
    "them proves an error: empty parts of a volume are constant for good reason.",
    "Clipped: the share of its values that were outside the declared range, by "
    f"{CLIPPED_SHARE:.0%} or by {CLIPPED_TIMES:g} times the median share, whichever is larger; "
    "known of all blocks. NaN and infinite values: any make a block suspicious, with 2 and more; "
    "known of all blocks.",
    "Constant or saturated: in its window, each channel has one value only, or at least "
    f"{SATURATED_SHARE:.0%} of its values at one end of the range: 1, or 0.5 if more than "
    f"{USUAL_SHARE:.0%} of the sampled blocks are like that.",
    "Mean: how far the mean of its window is from the median of all windows, in robust standard "
    f"deviations (1.4826 times the median absolute deviation), by {MEAN_DEVIATIONS:g}; the channel "
    "that is farthest off counts.",
    "Seams: at a face between two blocks, differences between neighbouring voxels are compared "
    "with those at the planes one and two voxels beside it, at the same places: by the ratio of "
    "their mean sizes, and by the size of their mean, which is the step from one block to the "
    f"next. A face is suspicious if either is {FACE_FACTOR:g} times the largest one of all planes "
    "inside blocks that were sampled along this axis. All faces of an axis together are suspicious "
    "if the median of their ratios exceeds that of the planes inside blocks by "
    f"{AXIS_ERRORS:g} standard errors and by a factor of {AXIS_FACTOR:g}.",
)


def quality_values(record: RunRecord, quality: Quality) -> dict[str, Any]:
    """The values of a page about the quality of a run's output."""
    grid, units = record.grid, record.grid.units
    return {
        "quality": quality,
        "where": lambda block: f"{grid.where(block)} {units}",
        "sampled": _sampled(record, quality),
        "slice_note": _slice_note(record),
        "measures": MEASURES,
        "summary_names": SUMMARY_NAMES,
        "summary_cells": _summary_cells,
        "histogram": _histogram,
        "share": _share,
        "verdict": lambda seams: _verdict(float(seams.suspicion.max()), seams.systematic),
    }


def _sampled(record: RunRecord, quality: Quality) -> str:
    """What of the output was read."""
    if not any(array.windows for array in quality.arrays):
        return "No values have been read: no block is predicted yet, or none can be read."
    parts = []
    for array in quality.arrays:
        name = f"of {array.name}, " if array.name else ""
        parts.append(
            f"{name}{array.windows} blocks ({array.values:,} values) and {array.faces} faces"
        )
    predicted = int(record.trace.predicted.sum())
    return (
        f"From a sample, spread evenly over the ROI: {'; '.join(parts)} between blocks, of "
        f"{predicted:,} predicted blocks. Of each block a window in its middle is read, at most "
        f"{EDGE} voxels wide, and no more than {format_bytes(SAMPLE_BYTES)} in all of an array."
    )


def _slice_note(record: RunRecord) -> str:
    """How channels are shown."""
    texts = []
    for array in record.plan.output.arrays:
        name = f" of {array.name}" if array.name else ""
        if array.classes:
            texts.append(f"Labels{name} are shown in colours, label 0 in black.")
        elif len(array.stored_names) > 1:
            colours = zip(("red", "green", "blue"), array.stored_names, strict=False)
            shown = ", ".join(f"{channel} {colour}" for colour, channel in colours)
            texts.append(f"Channels{name}: {shown}.")
    return " ".join(texts)


def _summary_cells(summary: ChannelSummary) -> list[str]:
    numbers = (summary.lowest, summary.median, summary.mean, summary.highest)
    shares = (summary.low_share, summary.high_share, summary.empty_share, summary.nonfinite_share)
    return [*map(_number, numbers), *map(_share, shares)]


def _number(number: float) -> str:
    return "-" if isnan(number) else f"{number:.3g}"


def _share(share: float) -> str:
    """A share that tells nothing from little."""
    if share == 0:
        return "0"
    return "< 0.01%" if share < 1e-4 else f"{share:.2%}"


def _histogram(channel: ChannelQuality) -> Markup:
    label = f"Histogram of {channel.name}"
    return histogram(channel.counts, label, channel.titles)


def _verdict(worst: float, systematic: bool) -> str:
    if systematic:
        return "seams at most faces"
    return "some faces are suspicious" if worst >= 1 else "no seams"
