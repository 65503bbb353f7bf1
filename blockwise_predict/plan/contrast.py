"""Black frames and jumps of brightness or contrast along z, noticed in a sample of the input.

Patches at the same place in consecutive planes are compared, so that what the volume shows hardly
differs, and of the patches the median counts, so that no single structure does. A jump is a
difference far outside of what planes of this volume usually differ by (estimated robustly), and
large beside the volume's contrast.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from funlib.geometry import Roi
from numpy.typing import NDArray

from blockwise_predict.config.steps import step
from blockwise_predict.geometry.grid import format_length
from blockwise_predict.io import ChunkGrid, Planes, measure_planes
from blockwise_predict.plan.model import Plan

# A jump is more than so many robust standard deviations of the differences between planes, ...
_SIGMAS = 8.0
# ... more than this share of the deviation within planes (mean) or this factor (deviation), ...
_SHARE, _FACTOR = 0.5, 1.5
# ... and has the same direction in this share of the patches.
_AGREEING = 0.75
# Fewer differences do not tell what is usual.
_MIN_PAIRS = 16
# Share of the planes in which patches of padding have content; share of all others that need it in
# most planes for the volume to be judged.
_EMPTY, _DENSE = 0.05, 0.75
_SHOWN = 5

Floats = NDArray[np.float64]


def contrast_once(grid: ChunkGrid, roi: Roi, recorded: Plan | None) -> tuple[str, ...]:
    """`contrast_warnings`, or what an earlier run of the same ROI (output voxels) has `recorded`.

    So the sample is not read whenever a run is resumed.
    """
    if recorded is not None and recorded.contrast is not None and recorded.output.roi == roi:
        return recorded.contrast
    with step("sampling the input for jumps of contrast"):
        return tuple(contrast_warnings(grid))


def contrast_warnings(grid: ChunkGrid) -> Iterator[str]:
    """What is conspicuous along z in the ROI of an input [z, y, x]; nothing for other inputs."""
    array = grid.array
    if array.placement.grid.has_time or len(array.shape) != 3:
        return
    planes = measure_planes(grid)
    if planes is None or np.isnan(planes.std).all():
        return
    if not np.nan_to_num(planes.std).any() and np.nanmax(planes.mean) == np.nanmin(planes.mean):
        yield f"{array.path}: all sampled chunks hold one value, {np.nanmax(planes.mean):g}."
        return
    offset, size = array.placement.offset[0], array.placement.voxel_size[0]

    def nm(z: int) -> str:
        return format_length(offset + z * size)

    black = [
        f"{_span(first, last)} ({_span(nm(first), nm(last + 1))} nm, value {value:g})"
        for first, last, value in black_frames(planes)
    ]
    if black:
        yield (
            f"{array.path}: planes of one value, black frames, in all sampled chunks: z "
            f"{_listed(black)}. Predictions at and around them cannot be trusted."
        )
    jumps = [
        f"{_span(first, last)} ({_span(nm(first), nm(last))} nm: {what})"
        for first, last, what in jumps_of(planes)
    ]
    if jumps:
        yield (
            f"{array.path}: brightness or contrast jumps between sampled planes: z "
            f"{_listed(jumps)}. One --normalize rule is for the whole volume: look at the "
            "predictions on both sides."
        )


def black_frames(planes: Planes) -> list[tuple[int, int, float]]:
    """Ranges of sampled planes (first and last) of one value, in all patches, and the value.

    Patches that have one value in most planes, beside the sample or in padding, do not count.
    """
    columns = _with_content(planes)
    std, mean = planes.std[:, columns], planes.mean[:, columns]
    known = ~np.isnan(std)
    constant = known.any(axis=1) & ((std == 0) | ~known).all(axis=1)
    found: list[tuple[int, int, float]] = []
    for number in np.flatnonzero(constant):
        values = mean[number][known[number]]
        z, value = int(planes.z[number]), float(values[0])
        if values.min() < values.max():
            continue
        if found and found[-1][1:] == (z - 1, value):
            found[-1] = (found[-1][0], z, value)
        else:
            found.append((z, z, value))
    return found


def jumps_of(planes: Planes) -> list[tuple[int, int, str]]:
    """Pairs of successive sampled planes between which brightness or contrast jumps, and how."""
    columns = _with_content(planes)
    has_content = planes.std[:, columns] > 0
    mean = np.where(has_content, planes.mean[:, columns], np.nan)
    std = np.where(has_content, planes.std[:, columns], np.nan)
    if not has_content.any():
        return []
    within = float(np.sqrt(np.nanmean(std**2)))
    brighter = _outliers(planes.z, np.diff(mean, axis=0), _SHARE * within)
    stronger = _outliers(planes.z, np.diff(np.log(std), axis=0), float(np.log(_FACTOR)))
    found = []
    for number in np.flatnonzero(brighter | stronger):
        changes = [
            f"{name} {np.nanmedian(of[number]):.4g} to {np.nanmedian(of[number + 1]):.4g}"
            for name, of, jump in (("mean", mean, brighter), ("std", std, stronger))
            if jump[number]
        ]
        found.append((int(planes.z[number]), int(planes.z[number + 1]), ", ".join(changes)))
    return found


def _with_content(planes: Planes) -> NDArray[np.bool_]:
    """The patches that have more than one value in most of the planes that are known.

    None if many others have it in some planes only: in a volume of few objects on a background of
    one value, planes without an object are usual. Patches in padding have it in hardly any.
    """
    known = np.maximum(1, (~np.isnan(planes.std)).sum(axis=0))
    share = (planes.std > 0).sum(axis=0) / known
    content = np.asarray(share > 0.5)
    dense = content.sum() >= _DENSE * (share > _EMPTY).sum()
    return content if dense else np.zeros_like(content)


def _outliers(z: NDArray[np.int64], differences: Floats, smallest: float) -> NDArray[np.bool_]:
    """Which of the differences [pairs of planes, patches] are jumps.

    Neighbouring planes and those with planes between them that were not sampled are judged apart.
    """
    known = ~np.isnan(differences)
    enough = known.any(axis=1)
    median = np.zeros(len(differences))
    median[enough] = np.nanmedian(differences[enough], axis=1)
    same = (np.sign(differences) == np.sign(median)[:, None]).sum(axis=1)
    agreeing = same >= _AGREEING * np.maximum(1, known.sum(axis=1))
    outliers = np.zeros(len(differences), bool)
    for group in (np.diff(z) == 1, np.diff(z) > 1):
        chosen = group & enough
        if chosen.sum() >= _MIN_PAIRS:
            beyond = np.abs(median - np.median(median[chosen]))
            sigma = 1.4826 * np.median(beyond[chosen])
            outliers |= chosen & agreeing & (beyond > max(_SIGMAS * sigma, smallest))
    return outliers


def _span(first: object, last: object) -> str:
    return f"{first}" if first == last else f"{first}..{last}"


def _listed(places: list[str]) -> str:
    more = f", and {len(places) - _SHOWN} more" if len(places) > _SHOWN else ""
    return ", ".join(itertools.islice(places, _SHOWN)) + more
