"""What the time of blocks went into, and when each worker had blocks in work."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from blockwise_predict.config.quantities import format_seconds
from blockwise_predict.report.charts.plots import span_bar, stacked_bar
from blockwise_predict.report.record import RunRecord
from blockwise_predict.report.throughput import accumulated
from blockwise_predict.report.trace import STAGES, Trace
from blockwise_predict.report.workers import Worker

# Maximum number of workers that have a line of their own.
MAX_LINES = 64
# Number of steps of time in which it is told apart whether a worker was busy.
_STEPS = 240
# Least share of a step in which a worker had a block in work, and what it is drawn as.
_LEVELS = ((0.75, "w-busy"), (0.25, "w-half"), (0.01, "w-some"))


@dataclass(frozen=True)
class Stages:
    """The seconds that blocks took in all, and those of each stage."""

    blocks: int
    took: float
    seconds: dict[str, float]

    @classmethod
    def of(cls, trace: Trace, blocks: NDArray[np.bool_] | NDArray[np.intp]) -> Stages:
        """Those of some blocks."""
        seconds = {stage: float(trace.stage(stage)[blocks].sum()) for stage in STAGES}
        took = trace.took[blocks]
        return cls(len(took), float(took.sum()), seconds)

    @property
    def bar(self) -> Markup:
        """The stages as parts of a bar."""
        whole = sum(self.seconds.values())
        parts = [
            (f"t-{stage}", size, f"{stage}: {format_seconds(size)} ({size / (whole or 1):.0%})")
            for stage, size in self.seconds.items()
        ]
        label = "; ".join(title for _, _, title in parts)
        return stacked_bar(parts, whole, label)


@dataclass(frozen=True)
class WorkerLine:
    """A worker, what its blocks took, and the line of its times."""

    worker: Worker
    stages: Stages
    line: Markup


def worker_lines(record: RunRecord, begin: float, end: float) -> list[WorkerLine]:
    """A line for each of MAX_LINES workers at most, from `begin` to `end` (seconds since 1970).

    Of more, those that were lost or had errors come first.
    """
    trace = record.trace
    known = np.flatnonzero(trace.timed)
    known = known[np.argsort(trace.worker[known], kind="stable")]
    numbers = trace.worker[known]
    found = []
    chosen = sorted(record.workers, key=lambda one: (-one.losses, -one.errors, one.number))
    for worker in sorted(chosen[:MAX_LINES], key=lambda one: one.number):
        low, high = np.searchsorted(numbers, [worker.number, worker.number + 1])
        blocks = known[low:high]
        spans = [*_stays(worker, begin, end), *_busy(trace, blocks, begin, end)]
        label = f"Times of worker {worker.number}: {_summary(worker)}"
        found.append(WorkerLine(worker, Stages.of(trace, blocks), span_bar(spans, label)))
    return found


def _stays(worker: Worker, begin: float, end: float) -> list[tuple[float, float, str, str]]:
    length = max(end - begin, 1e-3)
    spans = [(0.0, 1.0, "w-back", f"worker {worker.number} was not there")]
    for stay in worker.stays:
        first, last = ((when - begin) / length for when in (stay.joined, stay.left))
        first, last = max(0.0, first), min(1.0, last)
        spans.append(
            (first, last, "w-present", f"there for {format_seconds((last - first) * length)}")
        )
        if stay.lost:
            spans.append((max(0.0, last - 0.006), last, "w-lost", f"lost: {stay.why}"))
    return spans


def _busy(
    trace: Trace, blocks: NDArray[np.intp], begin: float, end: float
) -> list[tuple[float, float, str, str]]:
    """When any of these blocks was in work."""
    if not blocks.size:
        return []
    ended = trace.ended[blocks]
    begun = np.minimum(trace.begun[blocks], ended - 1e-3)
    times = np.linspace(begin, max(end, begin + 1e-3), _STEPS + 1)
    shares = np.diff(accumulated(times, begun, ended, ended - begun)) / np.diff(times)
    classes = [next((name for least, name in _LEVELS if share >= least), "") for share in shares]
    spans, place = [], 0
    for name, group in itertools.groupby(classes):
        steps = len(list(group))
        if name:
            title = {"w-busy": "busy", "w-half": "busy in part", "w-some": "busy for a moment"}
            spans.append((place / _STEPS, (place + steps) / _STEPS, name, title[name]))
        place += steps
    return spans


def _summary(worker: Worker) -> str:
    lost = f", lost {worker.losses} times" if worker.losses else ""
    stays = len(worker.stays)
    return f"there {stays} time{'s' if stays != 1 else ''}{lost}"
