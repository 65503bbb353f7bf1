"""Maps of blocks: cells in a plane, coloured by class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from blockwise_predict.report.charts.svg import element, rectangle

# Size of a map's longer side, and least size of the shorter one.
SIZE, LEAST = 400.0, 40.0


@dataclass(frozen=True)
class Cell:
    """A rectangle of a map, in shares of its height and width: `top .. bottom`, `left .. right`."""

    top: float
    bottom: float
    left: float
    right: float
    class_: str
    title: str


def block_map(cells: Sequence[Cell], aspect: float, label: str) -> Markup:
    """Cells in a plane whose width is `aspect` times its height."""
    width, height = (SIZE, SIZE / aspect) if aspect >= 1 else (SIZE * aspect, SIZE)
    width, height = max(width, LEAST), max(height, LEAST)
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
        role="img",
        aria_label=label,
        class_="map",
    )
