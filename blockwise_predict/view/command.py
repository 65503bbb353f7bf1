"""The `predict run` command that predicts what is on screen."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import ceil, floor
from typing import Any

from funlib.geometry import Coordinate, Roi

from blockwise_predict.config.model import OPTIONS, RunConfig
from blockwise_predict.config.option import option_name
from blockwise_predict.plan.model import Plan

# The user chooses another one if it is taken.
OUTPUT = "prediction.zarr/on_screen"
# Decided for this view, or for its chunks.
_OWN = ("output", "roi", "block_shape", "chunk_shape", "shard_shape", "precision", "normalize")


def box_roi(plan: Plan, center: Mapping[str, float], size: Mapping[str, float]) -> Roi:
    """The chunks of a plan that a box touches, by axes (nm), in output voxels.

    The box has the whole ROI's length along axes that are not named. Chunks beyond the ROI are cut
    off; of a box outside of it, the nearest chunk is left.
    """
    grid, roi = plan.output_grid, plan.output.roi
    begin, end = list(roi.begin), list(roi.end)
    for axis, name in enumerate(plan.input.axis_names):
        if name not in center:
            continue
        half = Fraction(size[name]) / 2
        block, first = plan.block_shape[axis], roi.begin[axis]
        bounds = [
            (Fraction(center[name]) + shift - grid.offset[axis]) / grid.voxel_size[axis] - first
            for shift in (-half, half)
        ]
        last = ceil(Fraction(roi.shape[axis], block)) - 1
        low = min(max(0, floor(bounds[0] / block)), last)
        high = min(max(low + 1, ceil(bounds[1] / block)), last + 1)
        begin[axis] = first + low * block
        end[axis] = min(first + high * block, roi.end[axis])
    return Roi(begin, Coordinate(end) - Coordinate(begin))


def run_command(plan: Plan, precision: str, roi: Roi) -> str:
    """The command that predicts a ROI (output voxels) with the values that are on screen.

    Numbers that were computed from a sample of the whole ROI, and the precision, are given.
    """
    words = ["predict", "run", *_words(plan.config)]
    rule = plan.normalize if plan.config.normalize or plan.normalize != "auto" else None
    if rule is not None:
        words += ["--normalize", rule]
    words += ["--precision", precision]
    words += ["--roi", plan.output_grid.world_bounds(roi), "--output", OUTPUT]
    return shlex.join(words)


def _words(config: RunConfig) -> list[str]:
    """The options of a configuration that differ from their defaults."""
    given = config.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    words = []
    for key, value in given.items():
        if key in _OWN:
            continue
        if value is True:
            words.append(option_name(key))
        elif OPTIONS[key].repeatable and isinstance(value, list):
            words += [word for item in value for word in (option_name(key), str(item))]
        else:
            words += [option_name(key), _text(value)]
    return words + config.consent_options


def _text(value: Any) -> str:
    """A value as it is typed."""
    if isinstance(value, dict):
        return ",".join(f"{name}={_text(part)}" for name, part in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ",".join(map(_text, value))
    return str(value)
