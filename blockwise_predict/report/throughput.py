"""How fast a run was, over time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from blockwise_predict.report.trace import Floats, Trace

# Number of steps of time that are shown.
STEPS = 120
# Shortest time of a block that counts (seconds): it stands as a denominator.
_LEAST_S = 1e-3


@dataclass(frozen=True)
class Throughput:
    """Voxels per second in steps of equal length from `begin` to `end` (seconds since 1970)."""

    begin: float
    end: float
    rates: Floats


def throughput(trace: Trace, voxels: Floats) -> Throughput | None:
    """The throughput of a run; None if no times are recorded.

    A block's voxels count evenly over the time that it took.
    """
    known = trace.timed & trace.predicted
    if not known.any():
        return None
    begun, ended = trace.begun[known], trace.ended[known]
    begun = np.minimum(begun, ended - _LEAST_S)
    first, last = float(begun.min()), float(ended.max())
    times = np.linspace(first, last, STEPS + 1)
    done = accumulated(times, begun, ended, voxels[known])
    rates = np.maximum(0, np.diff(done)) / np.diff(times)
    return Throughput(first, last, rates)


def accumulated(times: Floats, begun: Floats, ended: Floats, amounts: Floats) -> Floats:
    """How much of `amounts` is done at each of `times`, if each is done evenly over its span."""
    # Relative to the first, since products with seconds since 1970 would lose digits.
    origin = begun.min()
    times, begun, ended = times - origin, begun - origin, ended - origin
    speed = amounts / (ended - begun)
    return _ramps(times, begun, speed) - _ramps(times, ended, speed)


def _ramps(times: Floats, starts: Floats, speed: Floats) -> Floats:
    """The sum of ramps that rise with a speed from their start on."""
    order = np.argsort(starts)
    slopes = np.concatenate([[0], np.cumsum(speed[order])])
    intercepts = np.concatenate([[0], np.cumsum((speed * starts)[order])])
    before = np.searchsorted(starts[order], times)
    return np.asarray(slopes[before] * times - intercepts[before])
