"""Slices through blocks: raw beside prediction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blockwise_predict.errors import ArrayError
from blockwise_predict.geometry.grid import Lengths
from blockwise_predict.io import BlockSource, OutputArray
from blockwise_predict.plan.model import Plan
from blockwise_predict.plan.parts import ArrayPlan
from blockwise_predict.report.blockgrid import BlockGrid
from blockwise_predict.report.quality.pictures import (
    Picture,
    centre_box,
    coloured,
    composite,
    format_nm,
    grey,
    picture,
    planes,
)

# Maximum number of arrays that are shown beside the raw data.
MAX_ARRAYS = 3
Box = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class Slice:
    """A slice of a block along a plane: pictures of raw and of each array, and what they show."""

    title: str
    pictures: list[Picture]

    @property
    def bar(self) -> str:
        """The length of the scale bar."""
        return self.pictures[0].bar


@dataclass(frozen=True)
class Shown:
    """An array of the output, and the values that are shown as black and as white."""

    plan: ArrayPlan
    array: OutputArray
    low: float
    high: float

    def pixels(self, box: Box, plane: tuple[int, int]) -> NDArray[np.uint8]:
        """A slice of it as [y, x, RGB]."""
        stored = _plane(self.array.read(*box), plane)
        if self.plan.classes:
            return coloured(stored[0])
        return composite(self.plan.encoding.decode(stored), self.low, self.high)


class Slicer:
    """Makes slices of blocks. `raw` is None if the input cannot be opened."""

    def __init__(
        self, plan: Plan, grid: BlockGrid, raw: BlockSource | None, shown: Sequence[Shown]
    ) -> None:
        self._plan, self._grid, self._raw = plan, grid, raw
        self._shown = list(shown)[:MAX_ARRAYS]

    def slices(self, block: int) -> list[Slice]:
        """The slices of a block along each plane; those that cannot be read are left out."""
        index = self._grid.index(block)
        begin = [int(edges[i]) for edges, i in zip(self._grid.edges, index, strict=True)]
        end = [int(edges[i + 1]) for edges, i in zip(self._grid.edges, index, strict=True)]
        has_time = self._plan.output_grid.has_time
        found = []
        for plane in planes(len(begin), has_time):
            box = centre_box(begin, end, plane)
            sizes = self._plan.output_grid.voxel_size
            voxel_size = (sizes[plane[0]], sizes[plane[1]])
            pictures = list(self._pictures(box, plane, voxel_size))
            if pictures:
                found.append(Slice(self._title(box, plane, voxel_size), pictures))
        return found

    def _pictures(self, box: Box, plane: tuple[int, int], voxel_size: Lengths) -> Sequence[Picture]:
        found = []
        try:
            if self._raw is not None:
                found.append(picture(self._raw_pixels(self._raw, box, plane), voxel_size, "raw"))
            for shown in self._shown:
                name = f"prediction {shown.plan.name}".strip()
                found.append(picture(shown.pixels(box, plane), voxel_size, name))
        except (ArrayError, ValueError, OSError):
            # A chunk that is damaged or gone: predict verify says which.
            return []
        return found

    def _raw_pixels(self, raw: BlockSource, box: Box, plane: tuple[int, int]) -> NDArray[np.uint8]:
        """The input of a box of the output, its contrast stretched: in voxels of the output, each
        with the value of the input voxel that it lies in."""
        origin, scale = self._plan.output.roi_begin, self._plan.scale
        places = [
            np.clip((np.arange(b, e) + o) // s, 0, n - 1)
            for b, e, o, s, n in zip(*box, origin, scale, raw.shape, strict=True)
        ]
        begin, end = [int(p[0]) for p in places], [int(p[-1]) + 1 for p in places]
        values = _plane(raw.read(begin, end), plane)[0].astype(np.float64)
        finite = values[np.isfinite(values)]
        low, high = np.percentile(finite, [0.5, 99.5]) if finite.size else (0.0, 1.0)
        down, right = (places[axis] - begin[axis] for axis in plane)
        return grey(values, float(low), float(high))[np.ix_(down, right)]

    def _title(self, box: Box, plane: tuple[int, int], voxel_size: Lengths) -> str:
        names = self._plan.input.axis_names
        lengths = [
            format_nm(float((box[1][axis] - box[0][axis]) * size))
            for axis, size in zip(plane, voxel_size, strict=True)
        ]
        return f"{names[plane[0]]} ↓ {lengths[0]}, {names[plane[1]]} → {lengths[1]}"


def _plane(data: NDArray[np.generic], plane: tuple[int, int]) -> NDArray[np.generic]:
    """A slice [c, y, x] of what was read of a box [c, *spatial], one voxel thick."""
    others = tuple(
        axis + 1 for axis in range(data.ndim - 1) if axis not in plane and data.shape[axis + 1] >= 1
    )
    first = tuple(0 if axis in others else slice(None) for axis in range(data.ndim))
    return data[first]
