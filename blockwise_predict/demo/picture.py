"""The demo's picture: raw, predicted affinities, and an overlay of both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

GAP = 16  # pixels between panels and around them
TITLE_HEIGHT = 40
BACKGROUND = (255, 255, 255)
INK = (30, 30, 30)
BOUNDARY_COLOUR = (255, 80, 40)
BAR_LENGTHS_NM = (100, 200, 500, 1000, 2000, 5000, 10000)

Rgb = NDArray[np.uint8]


def save_picture(
    path: str | Path,
    raw: NDArray[np.uint8],
    affinities: NDArray[np.floating],
    *,
    voxel_size_nm: float,
    magnification: int = 3,
) -> None:
    """Write a PNG with three panels of one slice.

    `raw` is [y, x]; `affinities` is [channel, y, x] in 0 to 1, where low values mark boundaries.
    A voxel is `magnification` pixels wide (titles need panels of at least 400 pixels); the first
    panel has a scale bar. Raises ValueError if the shapes differ.
    """
    if affinities.shape[1:] != raw.shape:
        raise ValueError(f"affinities {affinities.shape} do not cover raw {raw.shape}")
    grey = np.repeat(raw[..., None], 3, axis=2)
    inside = np.clip(affinities.mean(axis=0), 0, 1)
    panels = {
        "raw": _magnify(grey, magnification),
        "predicted affinity, mean of channels": _magnify(_to_grey(inside), magnification),
        "predicted boundaries on raw": _magnify(_overlay(grey, inside), magnification),
    }
    _draw_scale_bar(panels["raw"], voxel_size_nm / magnification)
    _side_by_side(panels).save(path, optimize=True)


def _to_grey(values: NDArray[np.floating]) -> Rgb:
    return np.repeat(np.rint(values * 255).astype(np.uint8)[..., None], 3, axis=2)


def _overlay(grey: Rgb, inside: NDArray[np.floating]) -> Rgb:
    """Tint `grey` with the boundary colour, as strongly as a boundary is predicted."""
    strength = (0.85 * (1 - inside) ** 1.5)[..., None]
    mixed = grey * (1 - strength) + np.array(BOUNDARY_COLOUR) * strength
    return np.asarray(np.rint(mixed), np.uint8)


def _magnify(panel: Rgb, magnification: int) -> Image.Image:
    height, width = panel.shape[:2]
    size = (width * magnification, height * magnification)
    return Image.fromarray(panel).resize(size, Image.Resampling.BICUBIC)


def _draw_scale_bar(panel: Image.Image, nm_per_pixel: float) -> None:
    """A white bar in the lower left, of a round length up to a third of the panel."""
    room_nm = panel.width * nm_per_pixel / 3
    length_nm = max((n for n in BAR_LENGTHS_NM if n <= room_nm), default=BAR_LENGTHS_NM[0])
    label = f"{length_nm} nm" if length_nm < 1000 else f"{length_nm // 1000} um"
    draw = ImageDraw.Draw(panel)
    left, bottom = GAP, panel.height - GAP
    right = left + round(length_nm / nm_per_pixel)
    draw.rectangle([left, bottom - 6, right, bottom], fill="white", outline="black")
    draw.text(
        ((left + right) // 2, bottom - 10),
        label,
        fill="white",
        stroke_fill="black",
        stroke_width=2,
        anchor="md",
        font=ImageFont.load_default(20),
    )


def _side_by_side(panels: dict[str, Image.Image]) -> Image.Image:
    width = GAP + sum(panel.width + GAP for panel in panels.values())
    height = TITLE_HEIGHT + max(panel.height for panel in panels.values()) + GAP
    sheet = Image.new("RGB", (width, height), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    left = GAP
    for title, panel in panels.items():
        draw.text(
            (left, TITLE_HEIGHT // 2), title, fill=INK, anchor="lm", font=ImageFont.load_default(20)
        )
        sheet.paste(panel, (left, TITLE_HEIGHT))
        left += panel.width + GAP
    return sheet
