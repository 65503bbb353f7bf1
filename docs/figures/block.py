"""Draws docs/images/block.svg: the path of a block, from an option to its committed chunks.

python docs/figures/block.py
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

WIDTH, HEIGHT = 980, 690
BOX_WIDTH = 250
LEFT, MIDDLE, RIGHT = 20, 365, 710
PROCESS, STORAGE = "#eef3f8", "#f7f1e6"
LINE, TEXT = "#3a6ea5", "#222222"


@dataclass(frozen=True)
class Box:
    """A step: where it stands, what happens, and the module that does it."""

    x: int
    y: int
    title: str
    module: str
    height: int = 48

    @property
    def left(self) -> tuple[int, int]:
        """Middle of its left edge."""
        return self.x, self.y + self.height // 2

    @property
    def right(self) -> tuple[int, int]:
        """Middle of its right edge."""
        return self.x + BOX_WIDTH, self.y + self.height // 2

    @property
    def top(self) -> tuple[int, int]:
        """Middle of its top edge."""
        return self.x + BOX_WIDTH // 2, self.y

    @property
    def bottom(self) -> tuple[int, int]:
        """Middle of its bottom edge."""
        return self.x + BOX_WIDTH // 2, self.y + self.height


OPTIONS = Box(LEFT, 60, "options, YAML, Python", "cli, run/api")
CONFIG = Box(LEFT, 138, "RunConfig: one strict value", "config/model")
PLAN = Box(LEFT, 216, "open, region, layout, assemble", "plan/make")
RECORD = Box(LEFT, 294, "lock, plan, output created", "run/prepare, records")
DISPATCH = Box(LEFT, 372, "a block is handed out once", "scheduling/dispatcher")
LEDGER = Box(LEFT, 606, "the block is marked done", "records/ledger")
START = Box(MIDDLE, 216, "a process for one device", "fleet, worker/process")
SETUP = Box(MIDDLE, 294, "network loaded, inputs opened", "worker/setup, checkpoint")
SLOT = Box(MIDDLE, 372, "a slot asks for a block", "scheduling/client")
READ = Box(MIDDLE, 450, "block and context are read", "worker/block, io/checked")
COMPUTE = Box(MIDDLE, 528, "normalise, passes, encode", "engine/predictor")
WRITE = Box(MIDDLE, 606, "rows of chunks are written", "io/output")
INPUT = Box(RIGHT, 450, "input array", "zarr, N5: file, S3, GCS, HTTP")
OUTPUT = Box(RIGHT, 606, "committed chunks", "zarr, N5: file, S3, GCS")
BOXES = [OPTIONS, CONFIG, PLAN, RECORD, DISPATCH, LEDGER, START, SETUP, SLOT, READ, COMPUTE, WRITE]
BOXES += [INPUT, OUTPUT]


def main() -> None:
    """Write the figure."""
    arrows = [
        *(arrow(a.bottom, b.top) for a, b in ((OPTIONS, CONFIG), (CONFIG, PLAN), (PLAN, RECORD))),
        *(arrow(a.bottom, b.top) for a, b in ((RECORD, DISPATCH), (START, SETUP))),
        *(arrow(a.bottom, b.top) for a, b in ((SLOT, READ), (READ, COMPUTE), (COMPUTE, WRITE))),
        arrow(DISPATCH.right, SLOT.left, "block number"),
        arrow(INPUT.left, READ.right, "tensorstore"),
        arrow(WRITE.right, OUTPUT.left, "tensorstore"),
        arrow(WRITE.left, LEDGER.right, "when committed"),
        arrow(LEDGER.top, DISPATCH.bottom),
        arrow(SETUP.bottom, SLOT.top),
        arrow(RECORD.right, SETUP.left, "plan.json"),
    ]
    lanes = [
        lane(LEFT, "predict run: one process", PROCESS),
        lane(MIDDLE, "workers: on any machine", PROCESS),
        lane(RIGHT, "storage", STORAGE),
    ]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="Helvetica, Arial, sans-serif" font-size="14">'
        '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" '
        f'markerHeight="7" orient="auto"><path d="M0 0L10 5L0 10z" fill="{LINE}"/></marker></defs>'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>'
    )
    parts = [head, *lanes, *arrows, *map(drawn, BOXES), "</svg>"]
    target = Path(__file__).parents[1] / "images" / "block.svg"
    target.write_text("\n".join(parts) + "\n")


def lane(x: int, title: str, fill: str) -> str:
    """The background of a column."""
    return (
        f'<rect x="{x - 12}" y="12" width="{BOX_WIDTH + 24}" height="{HEIGHT - 24}" rx="8" '
        f'fill="{fill}" opacity="0.7"/>'
        f'<text x="{x}" y="38" font-weight="bold" fill="{TEXT}">{title}</text>'
    )


def drawn(box: Box) -> str:
    """A box with its text."""
    x, y = box.x + 12, box.y
    return (
        f'<rect x="{box.x}" y="{y}" width="{BOX_WIDTH}" height="{box.height}" rx="5" '
        f'fill="#ffffff" stroke="{LINE}"/>'
        f'<text x="{x}" y="{y + 20}" fill="{TEXT}">{box.title}</text>'
        f'<text x="{x}" y="{y + 38}" font-size="12" fill="#5a5a5a">{box.module}</text>'
    )


def arrow(begin: tuple[int, int], end: tuple[int, int], label: str = "") -> str:
    """An arrow, with its label above the middle."""
    (x0, y0), (x1, y1) = begin, end
    line = (
        f'<line x1="{x0}" y1="{y0}" x2="{x1}" y2="{y1}" stroke="{LINE}" stroke-width="1.6" '
        'marker-end="url(#tip)"/>'
    )
    if not label:
        return line
    x, y = (x0 + x1) // 2, (y0 + y1) // 2
    return line + (
        f'<text x="{x}" y="{y - 7}" font-size="11" text-anchor="middle" fill="#5a5a5a">'
        f"{label}</text>"
    )


if __name__ == "__main__":
    main()
