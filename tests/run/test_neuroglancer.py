"""`predict run --pyramid` of a public-style pyramid, in real neuroglancer on top of its input."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from tests.support.networks import save_network
from tests.support.neuroglancer_page import NeuroglancerPage, neuroglancer_page
from tests.support.pyramids import write_pyramid
from tests.support.runs import predict, read_output
from tests.support.webserver import ranges

# Voxels of 4 nm [z, y, x]: the image, and a bright box in it that has corners on voxels of 32 nm.
SHAPE = (16, 64, 272)
BOX = np.array([(0, 8), (16, 48), (40, 176)])
DARK, BRIGHT = 9_000, 52_000
WINDOW = {"min": 0, "max": 65535, "start": 4_000, "end": 60_000}
OMERO = {"channels": [{"label": "EM", "color": "FFFFFF", "active": True, "window": WINDOW}]}
# Translations of the level (40 nm) and of the group (1 micrometer) add up, along z; neuroglancer
# takes them for the centre of a voxel of 4 nm.
BEGIN_NM = np.array([1040, 0, 0]) - 2
BOX_NM = BEGIN_NM[:, None] + 4 * BOX

PAGE = (320, 200)
NM_PER_PIXEL = 2


def save_detector(folder: Path, voxel_nm: list[int]) -> list[object]:
    """Options of a U-Net whose output is max(0, 4 v - 2) for each voxel's value v, in 0 to 1; its
    configuration states the voxel size."""
    weights, architecture = save_network(folder, num_fmaps=1, fmaps_out=1)
    state = {key: torch.zeros_like(value) for key, value in torch.load(weights).items()}
    path = {"l_conv.0.conv_pass.0": 1, "l_conv.0.conv_pass.2": 1, "r_conv.0.0.conv_pass.0": 1}
    for layer, factor in {**path, "r_conv.0.0.conv_pass.2": 4}.items():
        state[f"architecture.unet.{layer}.weight"][0, 0, 1, 1, 1] = factor
    state["architecture.unet.r_conv.0.0.conv_pass.2.bias"][0] = -2
    torch.save(state, weights)
    document = yaml.safe_load(architecture.read_text())
    architecture.write_text(yaml.safe_dump({**document, "input_voxel_size": voxel_nm}))
    return ["--checkpoint", weights, "--architecture", architecture]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NeuroglancerPage]:
    with neuroglancer_page(tmp_path_factory.mktemp("chromium"), PAGE) as page:
        yield page


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image of 4, 8 and 16 nm, and what a network of 8 nm makes of it in both versions of zarr:
    levels of 8, 16 and 32 nm."""
    folder = tmp_path_factory.mktemp("site")
    data = np.full(SHAPE, DARK, np.uint16)
    data[tuple(slice(*bounds) for bounds in BOX)] = BRIGHT
    image = write_pyramid(folder / "image.zarr", data, omero=OMERO)
    run = ["run", *save_detector(folder, [8, 8, 8]), "--input", image, "--pyramid"]
    run += ["--device", "cpu", "--precision", "float32"]
    for kind in ("zarr2", "zarr3"):
        output = folder / f"{kind}.zarr" / "bright"
        predict(*run, "--output", output, "--format", kind)
        assert (read_output(str(output)) > 0.5).sum() == np.diff(BOX).prod() / 8
    return folder


def layer(source: str, threshold: float, color: str, voxel_pixels: int) -> dict[str, Any]:
    """A layer that adds a colour to those below it where values are above a threshold.

    The level shown is the coarsest with voxels of at most so many pixels.
    """
    above = f"step({threshold:.1f}, float(toRaw(getDataValue())))"
    return {
        "type": "image",
        "source": source,
        "shader": f"void main() {{ emitRGB({above} * {color}); }}",
        "blend": "additive",
        "opacity": 1,
        "crossSectionRenderScale": voxel_pixels,
    }


def pixels_of_the_box(center_nm: np.ndarray, axes: tuple[int, int]) -> np.ndarray:
    """Where the box is in a cross section along two axes (down, right), as bool."""
    shown = np.zeros(PAGE[::-1], bool)
    middle = np.array(shown.shape)[:, None] / 2
    corners = (BOX_NM - center_nm[:, None])[list(axes)] / NM_PER_PIXEL + middle
    shown[tuple(slice(*bounds) for bounds in corners.round().astype(int))] = True
    assert 0.01 < shown.mean() < 0.9
    return shown


@pytest.mark.parametrize("kind", ["zarr2", "zarr3"])
@pytest.mark.parametrize(
    ("voxel_pixels", "image_level", "level"), [(16, "s2", "bright_s2"), (2, "s0", "bright")]
)
def test_the_prediction_covers_the_object(
    folder: Path,
    page: NeuroglancerPage,
    kind: str,
    voxel_pixels: int,
    image_level: str,
    level: str,
) -> None:
    sent: list[str] = []
    with ranges(folder, sent) as site:
        middle = (DARK + BRIGHT) / 2
        output = f"{site}/{kind}.zarr/|{kind}:"
        layers = {
            "image": layer(f"{site}/image.zarr/|zarr2:", middle, "vec3(1, 0, 0)", voxel_pixels),
            "bright": layer(output, 0.5, "vec3(0, 1, 0)", voxel_pixels),
        }
        center_nm = BOX_NM.mean(axis=1)
        for layout, axes in {"xy": (1, 2), "xz": (0, 2)}.items():
            view = {"center_nm": center_nm, "nm_per_pixel": NM_PER_PIXEL, "layout": layout}
            pixels = page.pixels(layers, **view)
            expected = pixels_of_the_box(center_nm, axes)
            for color, name in enumerate(layers):
                different = (pixels[..., color] > 127) != expected
                assert not different.any(), f"{name} in {layout}: {different.sum()} pixels"
    # Coarser levels are shown until the one that is wanted is there; finer ones are not read.
    chunks = [path.split("/")[1] for path in sent if path.rsplit("/", 1)[1].isdigit()]
    assert {image_level, level} <= {*chunks}
    if voxel_pixels == 16:
        assert {*chunks} == {image_level, level}
