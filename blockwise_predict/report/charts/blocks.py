"""Maps of blocks: cells in a plane, coloured by class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from blockwise_predict.report.charts.svg import element, rectangle


@dataclass(frozen=True)
class Cell:
    """A rectangle of a map, in shares of its height and width: `top .. bottom`, `left .. right`."""

    top: float
    bottom: float
    left: float
    right: float
    class_: str
    title: str


def block_map(cells: Sequence[Cell], size: tuple[float, float], label: str) -> Markup:
    """Cells in a plane of a size (height, width) in pixels."""
    height, width = size
    rectangles = [
        rectangle(
            cell.left * width,
            cell.top * height,
            ((cell.right - cell.left) * width, (cell.bottom - cell.top) * height),
            cell.class_,
            cell.title,
        )
        for cell in cells
    ]
    return element(
        "svg",
        *rectangles,
        view_box=f"0 0 {width:.2f} {height:.2f}",
        width=width,
        height=height,
        role="img",
        aria_label=label,
        class_="map",
    )
