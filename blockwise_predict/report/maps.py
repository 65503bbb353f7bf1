"""Projections of the grid of blocks, coloured by state and by duration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from blockwise_predict.config.quantities import format_duration
from blockwise_predict.records.ledger import State
from blockwise_predict.report.blockgrid import BlockGrid
from blockwise_predict.report.charts.blocks import Cell, block_map
from blockwise_predict.report.record import RunRecord
from blockwise_predict.report.trace import Floats, Trace

# Maximum number of cells along an axis of a map: finer grids are binned.
MAX_CELLS = 36
# Pixels of the longest axis, which fit on a phone, and the least of the others.
SIZE, LEAST = 320.0, 32.0
# Number of colours of durations.
COLOURS = 8
# Where a cell stands for several blocks, the first of these states that any of them has is shown.
_FIRST = (State.FAILED, State.SKIPPED, State.FILLED)
_REST = (State.DONE, State.EMPTY, State.MASKED, State.OUTSIDE)


@dataclass(frozen=True)
class Map:
    """A projection on two axes (downwards, to the right), and whether cells are of several blocks.

    An axis is as long in all projections of a grid, and all axes are drawn at one scale, but for
    very short ones and time.
    """

    axes: tuple[str, str]
    picture: Markup
    binned: bool


@dataclass(frozen=True)
class DurationScale:
    """Durations (seconds) that the colours begin at, and the one that the last ends at."""

    edges: Floats

    def colour(self, seconds: float) -> str:
        """The class of a duration."""
        place = int(np.searchsorted(self.edges[1:-1], seconds, side="right"))
        return f"q{place}"


def state_maps(record: RunRecord) -> list[Map]:
    """The grid coloured by the states of its blocks."""
    found = []
    for projection in _projections(record.grid):
        counts = projection.counts(record.trace)
        classes = [_state_class(cell) for cell in counts]
        found.append(projection.map(record, counts, classes, "by state"))
    return found


def duration_scale(trace: Trace) -> DurationScale | None:
    """Colours for the durations of a run's blocks, evenly spaced in their logarithm between the 2nd
    and the 98th percentile; None if no durations are recorded."""
    work = trace.work[trace.timed & trace.predicted]
    if not work.size:
        return None
    low, high = np.percentile(np.maximum(work, 1e-3), [2, 98])
    return DurationScale(np.geomspace(low, max(high, low * 1.01), COLOURS + 1))


def duration_maps(record: RunRecord, scale: DurationScale) -> list[Map]:
    """The grid coloured by how long its blocks took without waiting, on average over a cell."""
    found = []
    for projection in _projections(record.grid):
        means = projection.durations(record.trace)
        classes = ["s-todo" if np.isnan(mean) else scale.colour(mean) for mean in means]
        counts = projection.counts(record.trace)
        found.append(projection.map(record, counts, classes, "by duration"))
    return found


def _state_class(counts: NDArray[np.int64]) -> str:
    for state in _FIRST:
        if counts[state]:
            return f"s-{state.name.lower()}"
    if counts[State.TODO]:
        others = counts.sum() - counts[State.TODO]
        return "s-part" if others else "s-todo"
    most = max(_REST, key=lambda state: int(counts[state]))
    return f"s-{most.name.lower()}"


def _projections(grid: BlockGrid) -> list[_Projection]:
    """Those on each pair of spatial axes; with frames, also one that shows time."""
    dims = len(grid.shape)
    pairs = [(dims - 2, dims - 1)]
    if dims > 2:
        pairs += [(dims - 3, dims - 1), (dims - 3, dims - 2)]
    if dims > 3:
        pairs.append((0, dims - 1))
    return [_Projection(grid, pair) for pair in pairs]


class _Projection:
    """The grid projected on a pair of its axes, binned if it is too fine."""

    def __init__(self, grid: BlockGrid, pair: tuple[int, int]) -> None:
        self._grid = grid
        self._pair = pair
        # For each of the two axes, the blocks at which bins begin, and the end.
        self._bins = [_bins(grid.shape[axis]) for axis in pair]
        self._size = (len(self._bins[0]) - 1, len(self._bins[1]) - 1)
        whole = np.zeros(grid.shape, np.int64)
        for axis, bins, factor in zip(pair, self._bins, (self._size[1], 1), strict=True):
            places = np.repeat(np.arange(len(bins) - 1), np.diff(bins)) * factor
            whole += places.reshape([-1 if a == axis else 1 for a in range(len(grid.shape))])
        self._cells = whole.ravel()

    def counts(self, trace: Trace) -> NDArray[np.int64]:
        """Number of blocks [cell, state]."""
        kinds = len(State)
        found = np.bincount(
            self._cells * kinds + trace.states, minlength=self._size[0] * self._size[1] * kinds
        )
        return found.reshape(-1, kinds)

    def durations(self, trace: Trace) -> Floats:
        """Mean duration of the predicted blocks of each cell; NaN where none is known."""
        known, number = trace.timed & trace.predicted, self._size[0] * self._size[1]
        cells = self._cells[known]
        blocks = np.bincount(cells, minlength=number)
        seconds = np.bincount(cells, trace.work[known], minlength=number)
        return np.divide(seconds, blocks, out=np.full(number, np.nan), where=blocks > 0)

    def map(
        self, record: RunRecord, counts: NDArray[np.int64], classes: list[str], what: str
    ) -> Map:
        """The map of these classes."""
        means = self.durations(record.trace)
        cells = []
        for number, class_ in enumerate(classes):
            row, column = divmod(number, self._size[1])
            title = self._title(record, (row, column), counts[number], means[number])
            top, bottom = self._share(0, row), self._share(0, row + 1)
            left, right = self._share(1, column), self._share(1, column + 1)
            cells.append(Cell(top, bottom, left, right, class_, title))
        names = tuple(self._grid.axis_names[axis] for axis in self._pair)
        label = f"Map of blocks {what}: {names[0]} downwards, {names[1]} to the right"
        picture = block_map(cells, self._drawn(record), label)
        binned = self._size != tuple(self._grid.shape[axis] for axis in self._pair)
        return Map((names[0], names[1]), picture, binned)

    def _share(self, which: int, place: int) -> float:
        edges = self._grid.edges[self._pair[which]]
        return float(edges[self._bins[which][place]] / edges[-1])

    def _drawn(self, record: RunRecord) -> tuple[float, float]:
        """Height and width in pixels."""
        grid = record.plan.output_grid
        sizes = zip(self._grid.edges, grid.voxel_size, strict=True)
        lengths = [float(edges[-1] * size) for edges, size in sizes]
        scale = SIZE / max(lengths[1:] if grid.has_time else lengths)
        drawn = [max(LEAST, length * scale) for length in lengths]
        if grid.has_time:
            drawn[0] = SIZE / 2
        down, right = self._pair
        return drawn[down], drawn[right]

    def _title(
        self, record: RunRecord, cell: tuple[int, int], counts: NDArray[np.int64], mean: float
    ) -> str:
        grid, begin, end = self._grid, [0] * len(self._grid.shape), list(self._grid.shape)
        for axis, bins, place in zip(self._pair, self._bins, cell, strict=True):
            begin[axis], end[axis] = int(bins[place]), int(bins[place + 1])
        first = int(np.ravel_multi_index(begin, grid.shape))
        blocks = int(counts.sum())
        roi = f"{grid.bounds(begin, end)} {grid.units}"
        states = [
            f"{'' if blocks == 1 else f'{counts[state]:,} '}{state.name.lower()}"
            for state in State
            if counts[state]
        ]
        took = (
            ""
            if np.isnan(mean)
            else f"; {format_duration(mean)}{'' if blocks == 1 else ' a block'}"
        )
        if blocks > 1:
            return f"{blocks:,} blocks, the first is {first}: {roi}\n{', '.join(states)}{took}"
        worker = int(record.trace.worker[first])
        by = f", worker {worker}" if worker >= 0 else ""
        return f"block {first}: {roi}\n{states[0]}{took}{by}"


def _bins(count: int) -> NDArray[np.int64]:
    """The begins of at most MAX_CELLS bins of a number of blocks, and the end."""
    bins = min(count, MAX_CELLS)
    return np.arange(bins + 1) * count // bins
