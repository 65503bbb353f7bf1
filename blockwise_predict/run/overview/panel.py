"""One projection of a picture: raw data below, blocks above, the ROI around them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from blockwise_predict.run.overview import drawing
from blockwise_predict.run.overview.drawing import Rgb, font
from blockwise_predict.run.overview.planes import Plane
from blockwise_predict.run.overview.scene import Cell, Scene, View

# Blocks with at least this edge (pixels) are outlined.
GRID_EDGE = 6
# Distance of ticks (pixels), and length.
TICKS_APART, TICK = 60, 5
_NO_RAW = 238

Pixels = NDArray[np.float64]


@dataclass(frozen=True)
class Panel:
    """A view of `width` x `height` pixels, with its upper left corner at `left`, `top`."""

    scene: Scene
    view: View
    left: int
    top: int
    width: int
    height: int
    title: str = ""

    @property
    def outlines_blocks(self) -> bool:
        """Whether blocks are large enough to be outlined."""
        edges = ((self.view.v, self.height), (self.view.h, self.width))
        size = self.scene.volume.size
        return all(self.scene.block[a] / size[a] * pixels >= GRID_EDGE for a, pixels in edges)

    def image(self, raw: Plane | None, mask: Plane | None) -> Image.Image:
        """Raw data with the blocks over it, and the mask's outline."""
        grey = np.full((self.height, self.width), float(_NO_RAW))
        if raw is not None:
            self._paste(grey, raw)
        rgb = np.repeat(grey[..., None], 3, axis=2)
        self._tint(rgb)
        if mask is not None:
            inside = self._sampled((mask.data != 0).any(0), mask)
            rgb[_outline(inside)] = drawing.MASK
        return Image.fromarray(np.rint(rgb).astype(np.uint8))

    def draw(self, draw: ImageDraw.ImageDraw) -> None:
        """The outlines of volume and ROI, and the title."""
        box = [self.left, self.top, self.left + self.width - 1, self.top + self.height - 1]
        draw.rectangle(box, outline=drawing.INK)
        roi = self.scene.roi
        left, right = (self.x(edge[self.view.h]) for edge in (roi.begin, roi.end))
        top, bottom = (self.y(edge[self.view.v]) for edge in (roi.begin, roi.end))
        # At least a visible dot.
        right, bottom = max(right, left + 4), max(bottom, top + 4)
        draw.rectangle([left, top, right - 1, bottom - 1], outline=drawing.ROI, width=3)
        at = (self.left + self.width, self.top - 17)
        draw.text(at, self.title, drawing.FAINT, font(13), anchor="rm")

    def x(self, nm: float) -> float:
        """The pixel of a position along the axis to the right."""
        begin, size = self.scene.volume.begin[self.view.h], self.scene.volume.size[self.view.h]
        return self.left + (nm - begin) / size * self.width

    def y(self, nm: float) -> float:
        """The pixel of a position along the axis down."""
        begin, size = self.scene.volume.begin[self.view.v], self.scene.volume.size[self.view.v]
        return self.top + (nm - begin) / size * self.height

    def draw_axes(self, draw: ImageDraw.ImageDraw, *, down: bool) -> None:
        """Ticks in human units along the lower border and, if `down`, along the left one."""
        bottom, text = self.top + self.height, font(13)
        for label, x in self._ticks(self.view.h, self.width):
            draw.line([(self.left + x, bottom), (self.left + x, bottom + TICK)], drawing.INK)
            draw.text((self.left + x, bottom + 8), label, drawing.INK, text, anchor="ma")
        at = (self.left + self.width / 2, bottom + 27)
        draw.text(at, self._name(self.view.h), drawing.FAINT, text, anchor="ma")
        if not down:
            return
        for label, y in self._ticks(self.view.v, self.height):
            draw.line([(self.left - TICK, self.top + y), (self.left, self.top + y)], drawing.INK)
            draw.text((self.left - 8, self.top + y), label, drawing.INK, text, anchor="rm")
        at = (self.left - 8, self.top - 17)
        draw.text(at, self._name(self.view.v), drawing.FAINT, text, anchor="rm")

    def _name(self, axis: int) -> str:
        """An axis, and the unit that it is shown in."""
        unit = drawing.unit_of(max(self.scene.volume.size))[1]
        return f"{self.scene.names[axis]} ({unit})"

    def _ticks(self, axis: int, pixels: int) -> Iterator[tuple[str, float]]:
        """Labels of round positions along an axis, and where they are in pixels."""
        volume = self.scene.volume
        size = drawing.unit_of(max(volume.size))[0]
        begin, end = volume.begin[axis] / size, volume.end[axis] / size
        for number in drawing.round_steps(begin, end, max(1, pixels // TICKS_APART)):
            yield f"{number:.6g}", (number - begin) / (end - begin) * pixels

    def _paste(self, grey: Pixels, raw: Plane) -> None:
        """Raw data in light greys, so that what is drawn over them stands out."""
        data = np.nan_to_num(raw.data[0].astype(np.float64), posinf=0.0, neginf=0.0)
        low, high = np.percentile(data, (1, 99))
        scaled = np.clip((data - low) / (high - low), 0, 1) if high > low else data * 0 + 0.5
        image = Image.fromarray(np.rint(scaled * 255).astype(np.uint8))
        size, box = (self.width, self.height), self._within(raw)
        shown = image.resize(size, Image.Resampling.BOX, box=box)
        grey[:] = 70 + 0.68 * np.asarray(shown, np.float64)

    def _within(self, plane: Plane) -> tuple[float, float, float, float]:
        """What is shown of a plane, in its voxels: left, top, right, bottom."""
        edges = []
        for axis, number in ((self.view.h, 1), (self.view.v, 0)):
            count = plane.data.shape[1 + number]
            voxel = (plane.end[number] - plane.begin[number]) / count
            volume = self.scene.volume
            edges.append(
                [
                    min(max(0.0, (nm - plane.begin[number]) / voxel), float(count))
                    for nm in (volume.begin[axis], volume.end[axis])
                ]
            )
        (left, right), (top, bottom) = edges
        return left, top, right, bottom

    def _tint(self, rgb: NDArray[np.float64]) -> None:
        """Tint blocks that are computed, and hatch those that are left out."""
        rows = self._places(self.view.v, self.height)
        columns = self._places(self.view.h, self.width)
        inside = (rows >= 0)[:, None] & (columns >= 0)
        cells = np.where(inside, self.view.cells[rows][:, columns], 255)
        share = self.view.share[rows][:, columns]
        computed = cells == Cell.COMPUTED
        _blend(rgb, computed, drawing.COMPUTED, 0.12 + 0.18 * share[computed])
        stripes = (np.add.outer(np.arange(self.height), np.arange(self.width)) // 3) % 3 == 0
        for cell, colour in (
            (Cell.MASKED_OUT, drawing.MASKED_OUT),
            (Cell.OUTSIDE, drawing.OUTSIDE),
        ):
            left_out = cells == cell
            _blend(rgb, left_out, colour, 0.12)
            _blend(rgb, left_out & stripes, colour, 0.65)
        if self.outlines_blocks:
            edges = _steps(rows)[:, None] | _steps(columns)
            _blend(rgb, inside & edges, drawing.EDGE, 0.85)

    def _places(self, axis: int, pixels: int) -> NDArray[np.int64]:
        """The position along an axis of the block at each pixel; -1 outside of the ROI."""
        begin, size = self.scene.volume.begin[axis], self.scene.volume.size[axis]
        nm = begin + (np.arange(pixels) + 0.5) / pixels * size
        roi, block = self.scene.roi, self.scene.block[axis]
        places = np.floor((nm - roi.begin[axis]) / block).astype(np.int64)
        outside = (nm < roi.begin[axis]) | (nm >= roi.end[axis])
        return np.where(outside, -1, places)

    def _sampled(self, data: NDArray[np.bool_], plane: Plane) -> NDArray[np.bool_]:
        """The voxels of a plane at each pixel; none beyond the plane."""
        found = []
        for axis, pixels, number in ((self.view.v, self.height, 0), (self.view.h, self.width, 1)):
            begin, size = self.scene.volume.begin[axis], self.scene.volume.size[axis]
            nm = begin + (np.arange(pixels) + 0.5) / pixels * size
            voxel = (plane.end[number] - plane.begin[number]) / data.shape[number]
            index = np.floor((nm - plane.begin[number]) / voxel).astype(np.int64)
            found.append(np.where((index >= 0) & (index < data.shape[number]), index, -1))
        rows, columns = found
        inside = (rows >= 0)[:, None] & (columns >= 0)
        return np.asarray(inside & data[rows][:, columns])


def _blend(
    rgb: NDArray[np.float64], where: NDArray[np.bool_], colour: Rgb, strength: float | Pixels
) -> None:
    alpha = np.broadcast_to(strength, (int(where.sum()),))[:, None]
    rgb[where] = rgb[where] * (1 - alpha) + np.array(colour) * alpha


def _steps(places: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Where another block begins."""
    return np.asarray(np.diff(places, prepend=places[:1]) != 0)


def _outline(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The pixels of a shape at its border, two wide."""
    core = inside.copy()
    for _ in range(2):
        padded = np.pad(core, 1, mode="edge")
        neighbours = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
        core = core & np.logical_and.reduce(neighbours)
    return inside & ~core
