"""The picture of `predict plan --picture`: ROI and blocks in the volume, from three sides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, PngImagePlugin, UnidentifiedImageError

from blockwise_predict.checkpoint.new_file import check_target, new_file
from blockwise_predict.config.quantities import format_bytes
from blockwise_predict.errors import ConfigError
from blockwise_predict.run.overview import drawing
from blockwise_predict.run.overview.collect import Subject
from blockwise_predict.run.overview.document import Overview
from blockwise_predict.run.overview.drawing import FAINT, INK, Rgb, font, wrapped
from blockwise_predict.run.overview.page import sections_of
from blockwise_predict.run.overview.planes import PLANE_BYTES, PLANE_CHUNKS
from blockwise_predict.run.overview.scene import Cell, Scene, scene_of
from blockwise_predict.run.overview.sheet import LEFT, TOP, Sheet, lay_out

# What tells a picture of ours, which may be replaced, from any other file: a text in the PNG.
MARK = ("Software", "blockwise-predict plan")
COLUMN, MARGIN, LABEL = 430, 40, 118
# Rows of the page that the picture repeats, by their labels.
SHOWN = (
    *("ROI", "blocks", "to compute", "tile", "memory", "workers"),
    *("arithmetic", "halo overhead", "bytes in", "files", "disk"),
)
MAX_WARNINGS, WARNING_LINES = 4, 5


def check_picture(file: Path) -> None:
    """Raise ConfigError if a picture cannot go there, or if that holds something else already."""
    if file.suffix.lower() != ".png":
        raise ConfigError(f"--picture {file}: pictures are PNG; give a name that ends in .png.")
    check_target(file, overwrite=True)
    if file.exists() and not _is_ours(file):
        raise ConfigError(
            f"--picture {file}: this file exists, and is no picture of a plan. Give another name."
        )


def _is_ours(file: Path) -> bool:
    try:
        with Image.open(file, formats=["PNG"]) as image:
            return bool(image.info.get(MARK[0]) == MARK[1])
    except (OSError, ValueError, UnidentifiedImageError):
        return False


def save_picture(file: Path, subject: Subject, overview: Overview) -> None:
    """Draw a planned run into a file, which may exist if it is such a picture.

    Raises ConfigError if it cannot be written.
    """
    check_picture(file)
    sheet = draw_picture(scene_of(subject), overview)
    text = PngImagePlugin.PngInfo()
    text.add_text(*MARK)
    with new_file(file) as temporary:
        sheet.save(temporary, "PNG", pnginfo=text, optimize=True)


def draw_picture(scene: Scene, overview: Overview) -> Image.Image:
    """The picture of a scene, with the figures of its overview."""
    sheet = lay_out(scene)
    column = max(panel.left + panel.width for panel in sheet.panels) + MARGIN + 10
    canvas = Image.new("RGB", (column + COLUMN + MARGIN, 6000), drawing.PAPER)
    draw = ImageDraw.Draw(canvas)
    _draw_title(draw, overview, canvas.width - 2 * MARGIN)
    legend = _draw_panels(canvas, draw, sheet)
    below = sheet.bottom + 64
    for note in _footnotes(sheet, legend):
        for line in wrapped(note, 13, column - MARGIN - LEFT // 2):
            draw.text((LEFT // 2, below), line, FAINT, font(13))
            below += 18
    bottom = _draw_legend(draw, (column, TOP), legend)
    bottom = _draw_figures(draw, (column, bottom + 22), overview)
    return canvas.crop((0, 0, canvas.width, max(bottom, below) + 24))


@dataclass(frozen=True)
class _Legend:
    """What the panels show: which of them raw data and a mask, and which kinds of blocks."""

    raw: tuple[bool, ...]
    mask: tuple[bool, ...]
    outlines: bool
    cells: frozenset[int]


def _draw_panels(canvas: Image.Image, draw: ImageDraw.ImageDraw, sheet: Sheet) -> _Legend:
    raw: list[bool] = []
    mask: list[bool] = []
    for panel in sheet.panels:
        scene, pixels = panel.scene, (panel.height, panel.width)
        planes = [scene.raw_plane(panel.view, pixels), scene.mask_plane(panel.view, pixels)]
        raw.append(planes[0] is not None)
        mask += [planes[1] is not None] if scene.mask else []
        canvas.paste(panel.image(*planes), (panel.left, panel.top))
        panel.draw(draw)
        panel.draw_axes(draw, down=panel.left == LEFT or bool(panel.title))
    scene = sheet.panels[0].scene
    return _Legend(
        raw=tuple(raw),
        mask=tuple(mask),
        outlines=any(panel.outlines_blocks for panel in sheet.panels),
        cells=frozenset(int(cell) for view in scene.views for cell in np.unique(view.cells)),
    )


def _draw_title(draw: ImageDraw.ImageDraw, overview: Overview, width: int) -> None:
    output = Path(overview.output.path)
    draw.text((LEFT // 2, 24), f"Plan of {output.parent.name}/{output.name}", INK, font(26))
    line = f"{overview.network.checkpoints[0].path} over {overview.input.path}"
    draw.text((LEFT // 2, 62), _shortened(line, 14, width), FAINT, font(14))


def _shortened(text: str, size: int, width: int) -> str:
    """A text without its beginning, if it is wider than `width` pixels."""
    if font(size).getlength(text) <= width:
        return text
    while text and font(size).getlength(f"...{text}") > width:
        text = text[1:]
    return f"...{text}"


def _footnotes(sheet: Sheet, legend: _Legend) -> Iterator[str]:
    yield (
        "Blocks and ROI are projected along the line of sight. Below them is a plane of raw data "
        "through the middle of the ROI, from the coarsest level that is fine enough."
    )
    if sheet.panels[0].scene.has_time:
        yield "Blocks of all frames are drawn at one place, over the frame in the middle."
    limits = f"more than {PLANE_CHUNKS:,} chunks or {format_bytes(PLANE_BYTES)} in every level"
    for what, shown in (("Raw data", legend.raw), ("The mask's outline", legend.mask)):
        if not all(shown):
            yield f"{what}: not shown where a plane would be {limits}, or cannot be read."
    if sheet.stretched:
        factors = " and ".join(f"{name} {x:.3g}" for name, x in sheet.stretched.items())
        yield f"Stretched to be visible, by a factor of: {factors}. All else is to scale."
    if not legend.outlines:
        yield "The outlines of blocks are left out, since they would be too fine."


def _draw_legend(draw: ImageDraw.ImageDraw, at: tuple[int, int], legend: _Legend) -> int:
    """What colours mean; returns the lower end."""
    left, top = at
    for kind, colour, text in _entries(legend):
        box = [left, top + 1, left + 24, top + 15]
        if kind == "line":
            draw.rectangle(box, outline=colour, width=3)
        else:
            pale = tuple(round(255 - (255 - part) * 0.3) for part in colour)
            draw.rectangle(box, fill=pale, outline=colour)
        if kind == "hatched":
            for x in range(left + 4, left + 24, 7):
                draw.line([(x, top + 15), (min(x + 10, left + 24), top + 2)], colour, 2)
        draw.text((left + 36, top + 8), text, INK, font(14), anchor="lm")
        top += 24
    return top


def _entries(legend: _Legend) -> Iterator[tuple[str, Rgb, str]]:
    yield "line", INK, "the input volume"
    yield "line", drawing.ROI, "the ROI: what the output spans"
    if Cell.COMPUTED in legend.cells:
        yield "filled", drawing.COMPUTED, "blocks that are computed"
    if Cell.MASKED_OUT in legend.cells:
        yield "hatched", drawing.MASKED_OUT, "blocks without foreground of the mask"
    if Cell.OUTSIDE in legend.cells:
        yield "hatched", drawing.OUTSIDE, "blocks outside of --rois"
    if any(legend.mask):
        yield "line", drawing.MASK, "the mask, in the middle plane"


def _draw_figures(draw: ImageDraw.ImageDraw, at: tuple[int, int], overview: Overview) -> int:
    """The rows of the page that matter most, and its warnings; returns the lower end."""
    left, top = at
    rows = dict(row for section in sections_of(overview) for row in section.rows)
    for label, value in ((label, rows[label]) for label in SHOWN if label in rows):
        draw.text((left, top), label, FAINT, font(14))
        for line in wrapped(value, 14, COLUMN - LABEL):
            draw.text((left + LABEL, top), line, INK, font(14))
            top += 19
        top += 4
    for table in (section.table for section in sections_of(overview) if section.table):
        top = _draw_table(draw, (left, top + 10), table)
    for warning in overview.warnings[:MAX_WARNINGS]:
        lines = list(wrapped(f"Warning: {warning}", 14, COLUMN))
        if len(lines) > WARNING_LINES:
            lines = [*lines[: WARNING_LINES - 1], f"{lines[WARNING_LINES - 1]} ..."]
        top += 10
        for line in lines:
            draw.text((left, top), line, drawing.ROI, font(14))
            top += 19
    return top


def _draw_table(
    draw: ImageDraw.ImageDraw, at: tuple[int, int], table: tuple[tuple[str, ...], ...]
) -> int:
    left, top = at
    text = font(14)
    widths = [max(text.getlength(cell) for cell in column) for column in zip(*table, strict=True)]
    for number, row in enumerate(table):
        x = float(left)
        for cell, width in zip(row, widths, strict=True):
            draw.text((x, top), cell, INK if number else FAINT, text)
            x += width + 16
        top += 20
    return top + 4
