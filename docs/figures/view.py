"""Draws docs/images/view.png and docs/images/predicting.png: the output of `predict demo`, and the
same network predicting where one looks, as `predict view` shows them.

python -m docs.figures.view
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from blockwise_predict.demo import MODEL

IMAGES = Path(__file__).parents[1] / "images"
PREDICTION = Path("predict-demo", "prediction.zarr", "affinities")
ON_DEMAND = {
    "--checkpoint": MODEL / "weights.safetensors",
    "--architecture": MODEL / "architecture.yaml",
    "--input": Path("predict-demo", "phantom.zarr", "raw"),
}
# A page has few colours besides those of the affinities.
COLORS = 192


def predict(*words: object, folder: Path) -> None:
    """Run a command of `predict` in a folder."""
    command = [sys.executable, "-m", "blockwise_predict", *map(str, words)]
    subprocess.run(command, check=True, cwd=folder)


def draw(name: str, *words: object, folder: Path) -> None:
    """Take a picture of what `predict view` shows."""
    predict("view", *words, "--screenshot", name, folder=folder)
    with Image.open(folder / name) as picture:
        small = picture.convert("RGB").quantize(COLORS, dither=Image.Dither.NONE)
    small.save(IMAGES / name, optimize=True)


def main() -> None:
    """Make the demo in a temporary folder, and take the pictures."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        predict("demo", folder=folder)
        draw("view.png", PREDICTION, folder=folder)
        on_demand = [word for pair in ON_DEMAND.items() for word in pair]
        draw("predicting.png", *on_demand, folder=folder)


if __name__ == "__main__":
    main()
