"""Where the panels of a picture go: to scale, as far as thin axes stay visible."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from blockwise_predict.run.overview.panel import Panel
from blockwise_predict.run.overview.scene import Scene

# Room of the panels, with the gaps between them (pixels), and margins for ticks and their names.
WIDTH, HEIGHT = 860, 780
GAP, LEFT, TOP = 74, 84, 124
# Axes are drawn at least as long, so that there is something to see.
SHORTEST = 44
# A ROI of at most this share of the volume along each axis is shown magnified as well, where there
# is at least so much room (pixels).
SMALL_ROI, LEAST_ROOM = 0.35, 180


@dataclass(frozen=True)
class Sheet:
    """Panels, and the factors by which axes are stretched beyond the common scale."""

    panels: tuple[Panel, ...]
    stretched: dict[str, float]

    @property
    def bottom(self) -> int:
        """The lower end of the lowest panel."""
        return max(panel.top + panel.height for panel in self.panels)


def lay_out(scene: Scene) -> Sheet:
    """The plane (y, x), and beside and below it those that z is an axis of; or a single plane."""
    *depth, y, x = range(len(scene.names))
    size = scene.volume.size
    z = depth[0] if depth else None
    wide, high = size[x], size[y]
    room_x, room_y = WIDTH, HEIGHT
    if z is not None:
        wide, high = wide + size[z], high + size[z]
        room_x, room_y = room_x - GAP, room_y - GAP
    scale = min(room_x / wide, room_y / high)
    pixels = [max(SHORTEST, round(length * scale)) for length in size]
    stretched = {
        name: SHORTEST / (length * scale)
        for name, length in zip(scene.names, size, strict=True)
        if length * scale < SHORTEST
    }
    panels = tuple(_panels(scene, pixels, z))
    closer = () if z is None else tuple(_magnified(scene, panels, pixels[z]))
    return Sheet((*panels, *closer), stretched)


def _magnified(scene: Scene, panels: tuple[Panel, ...], room: int) -> Iterator[Panel]:
    """The plane (y, x) of a small ROI, in the corner that the other panels leave free."""
    front = panels[0]
    share = max(roi / whole for roi, whole in zip(scene.roi.size, scene.volume.size, strict=True))
    if share > SMALL_ROI or room < LEAST_ROOM:
        return
    wide, high = (scene.roi.size[axis] for axis in (front.view.h, front.view.v))
    # Ticks of its own are to its left.
    left, top = front.left + front.width + GAP + LEFT // 2, front.top + front.height + GAP
    scale = min((room - LEFT // 2) / wide, room / high)
    width, height = (max(SHORTEST, round(length * scale)) for length in (wide, high))
    yield Panel(scene.magnified, front.view, left, top, width, height, title="the ROI, magnified")


def _panels(scene: Scene, pixels: list[int], z: int | None) -> Iterator[Panel]:
    *_, y, x = range(len(scene.names))
    right, below = LEFT + pixels[x] + GAP, TOP + pixels[y] + GAP
    for view in scene.views:
        if view.along == z or z is None:
            yield Panel(scene, view, LEFT, TOP, pixels[x], pixels[y])
        elif view.along == y:
            yield Panel(scene, view, LEFT, below, pixels[x], pixels[z])
        else:
            # y goes down as in the first panel, and z to the right.
            yield Panel(scene, view.turned(), right, TOP, pixels[z], pixels[y])
