"""Checks the quality of a run's output: reads the sample, and says what is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from blockwise_predict.errors import ArrayError
from blockwise_predict.io import BlockSource, open_output
from blockwise_predict.plan.model import Plan
from blockwise_predict.plan.planned_input import open_planned
from blockwise_predict.report.blockgrid import BlockGrid
from blockwise_predict.report.quality.arrays import ArrayCheck, ArrayQuality
from blockwise_predict.report.quality.choose import (
    MAX_BLOCKS,
    MAX_FACES,
    choose_blocks,
    choose_faces,
)
from blockwise_predict.report.quality.sample import ArraySampler, BlockSample, FaceSample
from blockwise_predict.report.quality.slices import Shown, Slice, Slicer
from blockwise_predict.report.quality.summary import value_span
from blockwise_predict.report.quality.suspicion import Suspicion, Suspicions
from blockwise_predict.report.trace import Trace

# Maximum number of suspicious blocks that are listed.
MAX_LISTED = 20
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Quality:
    """What is found: each array; the most suspicious blocks, of those that are suspicious in all;
    slices through the most suspicious, the median and the least suspicious of the sampled blocks;
    and what cannot be read."""

    arrays: list[ArrayQuality]
    suspicious: list[Suspicion]
    suspicious_in_all: int
    slices: list[tuple[str, Suspicion, list[Slice]]]
    problems: list[str]


class QualityChecker:
    """Checks the output of a run, again and again while it goes on: what has been read of a block
    is kept, since a block that is done does not change."""

    def __init__(self, plan: Plan, grid: BlockGrid) -> None:
        self._plan, self._grid = plan, grid
        self._samplers: dict[str, ArraySampler] = {}

    def check(self, trace: Trace, progress: Progress) -> Quality:
        """Read the sample of what is predicted by now, and say what is found."""
        suspicions, arrays, shown, problems = Suspicions(), [], [], []
        for number, array in enumerate(self._plan.output.arrays):
            try:
                opened = open_output(array.path)
            except ArrayError as error:
                problems.append(str(error))
                continue
            sampler = self._samplers.setdefault(array.path, ArraySampler(array, opened, self._grid))
            blocks, faces = self._read(sampler, trace, progress)
            span = value_span(blocks, array.value_range or array.window)
            names = self._plan.input.axis_names
            found = ArrayCheck(array, number, self._grid, trace, names, span)
            arrays.append(found.quality(blocks, faces, suspicions))
            shown.append(Shown(array, opened, *span))
        slicer = Slicer(self._plan, self._grid, self._raw(problems), shown)
        ranked = suspicions.ranked
        suspicious = [one for one in ranked if one.score >= 1]
        return Quality(
            arrays=arrays,
            suspicious=suspicious[:MAX_LISTED],
            suspicious_in_all=len(suspicious),
            slices=_chosen_slices(slicer, ranked, trace) if shown else [],
            problems=problems,
        )

    def _read(
        self, sampler: ArraySampler, trace: Trace, progress: Progress
    ) -> tuple[list[BlockSample], list[FaceSample]]:
        predicted = trace.predicted
        blocks = choose_blocks(self._grid, predicted, min(MAX_BLOCKS, sampler.max_windows))
        first = 1 if self._plan.output_grid.has_time else 0
        axes = range(first, len(self._grid.shape))
        most = max(1, min(MAX_FACES, sampler.max_slabs // len(axes)))
        faces = choose_faces(self._grid, predicted, axes, most)
        total, done = len(blocks) + len(faces), 0

        def one() -> None:
            nonlocal done
            done += 1
            progress(done, total)

        return sampler.blocks(blocks, one), sampler.faces(faces, one)

    def _raw(self, problems: list[str]) -> BlockSource | None:
        try:
            return open_planned(self._plan)
        except ArrayError as error:
            problems.append(f"the input cannot be shown: {error}")
            return None


def _chosen_slices(
    slicer: Slicer, ranked: list[Suspicion], trace: Trace
) -> list[tuple[str, Suspicion, list[Slice]]]:
    """Slices through the first, the median and the last of the ranked blocks."""
    known = [one for one in ranked if trace.predicted[one.block]]
    if not known:
        return []
    chosen = {
        "most suspicious": known[0],
        "median": known[len(known) // 2],
        "least suspicious": known[-1],
    }
    found, seen = [], set()
    for name, one in chosen.items():
        if one.block not in seen:
            seen.add(one.block)
            found.append((name, one, slicer.slices(one.block)))
    return found
