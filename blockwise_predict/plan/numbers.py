"""The numbers of the rule for the input's values: declared, or computed once for the whole run.

They are part of the plan. A run that is resumed, and every worker, uses the recorded ones, so that
all blocks agree, whatever is read for the sample at another time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from funlib.geometry import Coordinate, Roi

from blockwise_predict.config.normalize import Rule, parse_rule
from blockwise_predict.config.steps import step
from blockwise_predict.engine.values import Normalization
from blockwise_predict.errors import ConfigError
from blockwise_predict.io import (
    ChunkGrid,
    InputArray,
    display_windows,
    sample_statistics,
    stored_array,
    stored_box,
)
from blockwise_predict.plan.model import Plan
from blockwise_predict.plan.opened import Opened


@dataclass(frozen=True)
class Numbers:
    """A rule of `--normalize` with all its numbers, what it does, and where they are from."""

    rule: str
    normalization: Normalization
    notes: tuple[str, ...] = ()


def choose_numbers(opened: Opened, roi: Roi, recorded: Plan | None) -> Numbers:
    """The numbers for a ROI (output voxels), or those that an earlier run has `recorded`.

    Raises ConfigError or ArrayError if the input does not yield them.
    """
    asked, dtype = opened.normalize, opened.array.storage.dtype
    rule = parse_rule(asked)
    if not rule.depends_on_data:
        return Numbers(asked, Normalization.parse(asked, dtype))
    if recorded is not None and recorded.normalize and recorded.config.normalize == asked:
        origin = f"--normalize {asked}: {recorded.normalize}, as recorded when the run began"
        return Numbers(recorded.normalize, recorded.normalization, (origin,))
    if rule.kind == "omero":
        found, origin = _from_window(opened, rule)
    else:
        found, origin = _from_sample(sampled_chunks(opened, roi), rule)
    text = str(found)
    note = f"--normalize {asked}: {text}, from {origin}"
    return Numbers(text, Normalization.parse(text, dtype), (note,))


def sampled_chunks(opened: Opened, roi: Roi) -> ChunkGrid:
    """The input's stored chunks under a ROI (output voxels), without context."""
    scale = Coordinate(opened.scale)
    within = Roi((0,) * roi.dims, opened.array.shape)
    # Output voxels of a border are rounded outward to whole input voxels.
    begin = roi.begin // scale
    inside = Roi(begin, -(-roi.end // scale) - begin).intersect(within)
    return ChunkGrid(*stored_box(opened.array, inside.begin, inside.end))


def _from_sample(grid: ChunkGrid, rule: Rule) -> tuple[Rule, str]:
    with step("sampling the input's values"):
        sample = sample_statistics(grid)
    if rule.kind == "zscore":
        found = (sample.mean, sample.std)
        spread = sample.std
    else:
        low, high = rule.source or (0.0, 100.0)
        found = (sample.percentile(low), sample.percentile(high))
        spread = found[1] - found[0]
    if not spread > 0:
        raise ConfigError(
            f"--normalize {rule}: the values of the sample have no spread there, they are "
            f"{found[0]:g} ({sample} of {grid.array.path}). Name the numbers instead, for example "
            "range:LOW,HIGH."
        )
    named = replace(rule, source=(_rounded(found[0]), _rounded(found[1])))
    return named if rule.kind == "zscore" else replace(named, kind="range"), str(sample)


def _rounded(number: float) -> float:
    """A number of a sample, to the ten digits that can be read: what is recorded is used."""
    return float(f"{number:.10g}")


def _from_window(opened: Opened, rule: Rule) -> tuple[Rule, str]:
    array = stored_array(opened.array)
    if not isinstance(array, InputArray):
        raise ConfigError(
            f"--normalize {rule}: an array in memory has no OME-NGFF metadata; give range:LOW,HIGH."
        )
    windows = display_windows(array.path)
    if len(set(windows)) > 1:
        listed = ", ".join(f"{start:g}..{end:g}" for start, end in windows[:8])
        raise ConfigError(
            f"--normalize {rule}: the channels of {array.path} have windows of their own "
            f"({listed}), but one rule is for all channels. Give range:LOW,HIGH."
        )
    return replace(rule, kind="range", source=windows[0]), "the omero window in its metadata"
