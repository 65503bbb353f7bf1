"""Draws docs/images/view.png: the output of `predict demo`, as `predict view` shows it.

python -m docs.figures.view
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

FILE = Path(__file__).parents[1] / "images" / "view.png"
# A page has few colours besides those of the affinities.
COLORS = 192


def predict(*words: object, folder: Path) -> None:
    """Run a command of `predict` in a folder."""
    command = [sys.executable, "-m", "blockwise_predict", *map(str, words)]
    subprocess.run(command, check=True, cwd=folder)


def main() -> None:
    """Make the demo in a temporary folder, and take its picture."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        predict("demo", folder=folder)
        output = "predict-demo/prediction.zarr/affinities"
        predict("view", output, "--screenshot", "view.png", folder=folder)
        with Image.open(folder / "view.png") as picture:
            small = picture.convert("RGB").quantize(COLORS, dither=Image.Dither.NONE)
    small.save(FILE, optimize=True)


if __name__ == "__main__":
    main()
