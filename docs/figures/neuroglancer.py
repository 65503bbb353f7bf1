"""Draws docs/images/neuroglancer.png: an image and its prediction, as neuroglancer shows them.

The phantom of `predict demo` as a pyramid of uint16 in OME-NGFF 0.4, moved by its levels and by its
group, goes through `predict run --pyramid` without any option about it. Needs what the tests need.

python -m docs.figures.neuroglancer
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from blockwise_predict.demo import MODEL
from blockwise_predict.demo.phantom import VOXEL_SIZE_NM, make_phantom
from tests.support.neuroglancer_page import neuroglancer_page
from tests.support.pyramids import downsampled, multiscale, scaled, write_group
from tests.support.webserver import ranges

SHAPE = (48, 144, 192)
SEED = 2025
SIZE = (1000, 268)
PANEL_PIXELS = 318
OFFSET_NM = (400, 0, 0)
ABOVE_NM = (5000, 2000, 1000)
WINDOW = {"min": 0, "max": 65535, "start": 0, "end": 65535}
OMERO = {"channels": [{"label": "EM", "color": "FFFFFF", "active": True, "window": WINDOW}]}


def write_image(path: Path) -> None:
    """Levels of 10, 20 and 40 nm."""
    data = make_phantom(SHAPE, SEED).raw.astype(np.uint16) * 257
    arrays, levels = {}, {}
    for number in range(3):
        voxel = VOXEL_SIZE_NM << number
        shift = (voxel - VOXEL_SIZE_NM) / 2
        arrays[f"s{number}"] = data
        levels[f"s{number}"] = scaled((voxel,) * 3, [offset + shift for offset in OFFSET_NM])
        data = downsampled(data)
    above = [{"type": "translation", "translation": [length / 1000 for length in ABOVE_NM]}]
    entry = multiscale(levels, coordinateTransformations=above)
    write_group(path, arrays, [entry], "0.4", omero=OMERO)


def write_prediction(folder: Path) -> None:
    """Predict by the demo's network, whose configuration states its voxel size."""
    document = yaml.safe_load((MODEL / "architecture.yaml").read_text())
    architecture = folder / "architecture.yaml"
    architecture.write_text(yaml.safe_dump({**document, "input_voxel_size": [VOXEL_SIZE_NM] * 3}))
    words = {
        "--checkpoint": MODEL / "weights.safetensors",
        "--architecture": architecture,
        "--input": folder / "image.zarr",
        "--output": folder / "prediction.zarr" / "affinities",
        "--output-dtype": "uint8",
    }
    command = [sys.executable, "-m", "blockwise_predict", "run", "--pyramid"]
    command += [str(word) for pair in words.items() for word in pair]
    subprocess.run(command, check=True)


def layers(site: str, name: str, voxel_pixels: int) -> dict[str, dict[str, Any]]:
    """Image and prediction, of a level whose voxels are about so many pixels.

    Where the prediction is low, which is at the boundaries of cells, it is red.
    """
    scale = {"type": "image", "crossSectionRenderScale": voxel_pixels}
    red = "void main() { emitRGBA(vec4(1, 0, 0, 1.0 - toNormalized(getDataValue()))); }"
    return {
        f"image{name}": {**scale, "source": f"{site}/image.zarr/|zarr2:", "opacity": 1},
        f"boundaries{name}": {
            **scale,
            "source": f"{site}/prediction.zarr/|zarr3:",
            "shader": red,
            "opacity": 0.8,
        },
    }


def panel(*names: str) -> dict[str, Any]:
    """A part of the page with some of the layers."""
    return {"type": "viewer", "layers": [*names], "layout": "xy"}


def draw(folder: Path) -> None:
    """Take the screenshot: the image, the prediction on it, and both at the coarsest level."""
    center = np.array(ABOVE_NM) + OFFSET_NM + VOXEL_SIZE_NM * (np.array(SHAPE) - 1) / 2
    with ranges(folder) as site, neuroglancer_page(folder, SIZE) as page:
        fine, coarse = layers(site, "", 1), layers(site, " (40 nm)", 8)
        picture = page.picture(
            {**fine, **coarse},
            center_nm=center,
            nm_per_pixel=VOXEL_SIZE_NM * SHAPE[2] / PANEL_PIXELS,
            layout={"type": "row", "children": [panel("image"), panel(*fine), panel(*coarse)]},
            showScaleBar=True,
        )
    picture.save(Path(__file__).parents[1] / "images" / "neuroglancer.png", optimize=True)


def main() -> None:
    """Write all files to a temporary folder, and draw."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_image(folder / "image.zarr")
        write_prediction(folder)
        draw(folder)


if __name__ == "__main__":
    main()
