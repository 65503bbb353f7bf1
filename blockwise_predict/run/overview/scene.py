"""What a picture of a plan shows: the volume, the ROI and its blocks, the mask, raw data.

Without time: a block is that of all frames. World units are nm.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from blockwise_predict.geometry.grid import Lengths
from blockwise_predict.io import BlockSource, open_input, stored_array
from blockwise_predict.plan.model import Plan
from blockwise_predict.plan.selection import Selection
from blockwise_predict.run.overview.collect import Subject
from blockwise_predict.run.overview.planes import Cut, Plane, levels_of, read_plane

Point = tuple[float, ...]


class Cell(IntEnum):
    """What becomes of the blocks along a line of sight: the first of these that any of them is."""

    COMPUTED = 0
    MASKED_OUT = 1
    OUTSIDE = 2


@dataclass(frozen=True)
class Box:
    """A box in space."""

    begin: Point
    end: Point

    @property
    def size(self) -> Point:
        """Lengths along the axes."""
        return tuple(e - b for b, e in zip(self.begin, self.end, strict=True))

    @property
    def middle(self) -> Point:
        """The point in the middle."""
        return tuple((b + e) / 2 for b, e in zip(self.begin, self.end, strict=True))


@dataclass(frozen=True)
class View:
    """A projection along an axis: `v` is the axis down, `h` the axis to the right.

    `cells` [v, h] are `Cell`s, one for each column of blocks along the line of sight; `share` is
    the share of its blocks that are computed.
    """

    along: int
    v: int
    h: int
    cells: NDArray[np.uint8]
    share: NDArray[np.float64]

    def turned(self) -> View:
        """The same with the other axis down."""
        return replace(self, v=self.h, h=self.v, cells=self.cells.T, share=self.share.T)


@dataclass(frozen=True)
class Scene:
    """The spatial axes' names, the boxes of volume and ROI, and the size of a block.

    `raw` and `mask` are the levels of these arrays, coarsest first; `middle` is that of the ROI,
    with time.
    """

    names: tuple[str, ...]
    volume: Box
    roi: Box
    block: Point
    views: tuple[View, ...]
    raw: tuple[BlockSource, ...]
    mask: tuple[BlockSource, ...]
    middle: Point

    @property
    def has_time(self) -> bool:
        """Whether blocks of several times are drawn at one place."""
        return len(self.middle) > len(self.names)

    def raw_plane(self, view: View, pixels: tuple[int, int]) -> Plane | None:
        """The input's plane through the middle of the ROI, if it can be read at little cost."""
        return self._plane(self.raw, view, pixels)

    def mask_plane(self, view: View, pixels: tuple[int, int]) -> Plane | None:
        """The mask's plane there, likewise."""
        return self._plane(self.mask, view, pixels)

    def _plane(
        self, levels: tuple[BlockSource, ...], view: View, pixels: tuple[int, int]
    ) -> Plane | None:
        v, h = sorted((view.v, view.h))
        begin, end = self.volume.begin, self.volume.end
        size = pixels if view.v < view.h else pixels[::-1]
        cut = Cut(view.along, self.middle, (begin[v], begin[h]), (end[v], end[h]), size)
        plane = read_plane(levels, cut)
        return plane if plane is None or view.v < view.h else plane.turned()

    @property
    def magnified(self) -> Scene:
        """The ROI alone, as if it were the volume."""
        return replace(self, volume=self.roi)


def scene_of(subject: Subject) -> Scene:
    """The scene of a planned run. Raises ArrayError if the mask can no longer be opened."""
    plan = subject.plan
    grid, frames = plan.output_grid, int(plan.output_grid.has_time)
    inner = plan.input.grid
    roi = Box(_point(grid.world(plan.output.roi.begin)), _point(grid.world(plan.output.roi.end)))
    volume = Box(_point(inner.offset), _point(inner.world(plan.input.shape)))
    sizes = zip(plan.block_shape, grid.voxel_size, strict=True)
    mask = plan.config.mask
    return Scene(
        names=plan.input.axis_names[frames:],
        volume=Box(volume.begin[frames:], volume.end[frames:]),
        roi=Box(roi.begin[frames:], roi.end[frames:]),
        block=tuple(float(n * size) for n, size in sizes)[frames:],
        views=tuple(_views(plan, subject.selection)),
        raw=tuple(levels_of(stored_array(subject.opened.array))),
        mask=() if mask is None else tuple(levels_of(open_input(mask))),
        middle=roi.middle,
    )


def _point(lengths: Lengths) -> Point:
    return tuple(float(length) for length in lengths)


def _views(plan: Plan, selection: Selection | None) -> Iterator[View]:
    """Projections along z, y and x; of a plane the only one."""
    frames = int(plan.output_grid.has_time)
    axes = range(len(plan.block_shape) - frames)
    for along in axes if len(axes) == 3 else (0,):
        v, h = (axis for axis in axes if axis != along or len(axes) == 2)
        shape = (plan.blocks_per_axis[frames + v], plan.blocks_per_axis[frames + h])
        if selection is None:
            yield View(along, v, h, np.full(shape, Cell.COMPUTED, np.uint8), np.ones(shape))
            continue
        behind = tuple(a for a in range(len(plan.block_shape)) if a - frames not in (v, h))
        computed, masked = selection.computed, selection.masked_out.any(behind)
        cells = np.where(masked, Cell.MASKED_OUT, Cell.OUTSIDE).astype(np.uint8)
        cells[computed.any(behind)] = Cell.COMPUTED
        yield View(along, v, h, cells, computed.mean(behind))
