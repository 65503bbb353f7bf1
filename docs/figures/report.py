"""Draws docs/images/report.png: the report on a run of the demo's network over its phantom.

Needs what the tests need.

python -m docs.figures.report
"""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from blockwise_predict.cli.demonstration import Demonstration
from blockwise_predict.config.option import option_name
from tests.support.devtools import Tab, browser_tab

BLOCKS = {"block_shape": "24,64,64", "chunk_shape": "24,32,32", "workers": "2", "device": "cpu"}
WIDTH, HEIGHT, GAP, MARGIN = 1000, 1330, 24, 20
COLOURS = 255
TITLE = "predict-demo/prediction.zarr/affinities"
SECTIONS = ("header", "#slices")
"""What the two halves of the picture begin with."""


def write_report(folder: Path) -> Path:
    """Predict the phantom in 27 blocks, and report on it."""
    files = Demonstration(folder)
    files.write_phantom()
    options = {**files.options(), **BLOCKS}
    words = [word for key, value in options.items() for word in (option_name(key), value)]
    predict = [sys.executable, "-m", "blockwise_predict"]
    subprocess.run([*predict, "run", *words], check=True)
    command = [*predict, "report", str(files.prediction), "--file", str(files.report)]
    subprocess.run(command, check=True)
    return files.report


def screenshot(tab: Tab, section: str) -> Image.Image:
    """The page from the begin of a section on."""
    top = tab.value(f"document.querySelector('{section}').getBoundingClientRect().top + scrollY")
    begin = max(0, int(top) - MARGIN)
    return Image.open(io.BytesIO(tab.picture((0, begin, WIDTH, HEIGHT)))).convert("RGB")


def draw(report: Path, folder: Path) -> None:
    """Draw the parts of the page side by side, in few colours."""
    with browser_tab(folder) as tab:
        tab.resize(WIDTH, HEIGHT)
        tab.prefer("light")
        tab.open(report)
        # Without the folder, which is of this moment only.
        tab.value(f"document.querySelector('h1').textContent = '{TITLE}'")
        parts = [screenshot(tab, section) for section in SECTIONS]
    sheet = Image.new("RGB", (len(parts) * (WIDTH + GAP) - GAP, HEIGHT), "white")
    for number, part in enumerate(parts):
        sheet.paste(part, (number * (WIDTH + GAP), 0))
    few = sheet.quantize(COLOURS, kmeans=1, dither=Image.Dither.NONE)
    few.save(Path(__file__).parents[1] / "images" / "report.png", optimize=True)


def main() -> None:
    """Write all files to a temporary folder, and draw."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw(write_report(folder / "predict-demo"), folder)


if __name__ == "__main__":
    main()
