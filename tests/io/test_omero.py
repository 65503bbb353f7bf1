"""Channel names, colours and windows of an output for viewers: `omero` of its group."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from blockwise_predict.io import create_output, delete_output
from blockwise_predict.io.omero import colors
from tests.support.arrays import output_path, output_spec, write_json


def image_of(group: Path, kind: str) -> dict[str, Any]:
    """A group's OME-NGFF metadata."""
    if kind == "zarr2":
        return json.loads((group / ".zattrs").read_text())
    return json.loads((group / "zarr.json").read_text())["attributes"]["ome"]


@pytest.mark.parametrize(
    ("kind", "dtype", "low", "high"),
    [("zarr2", "uint8", 0, 255), ("zarr3", "int16", -32768, 32767), ("zarr3", "float32", 0, 1)],
)
def test_channels_have_names_colors_and_windows(tmp_path, kind, dtype, low, high):
    path = output_path(tmp_path, kind)
    create_output(output_spec(path, kind, dtype=dtype))
    window = {"min": low, "max": high, "start": low, "end": high}
    assert image_of(path.parent, kind)["omero"] == {
        "channels": [
            {"label": "aff_z", "color": "FF0000", "window": window, "active": True},
            {"label": "aff_y", "color": "00FFFF", "window": window, "active": True},
        ]
    }


def test_colors_are_distinct():
    assert colors(1) == ["FFFFFF"]
    assert colors(3) == ["FF0000", "00FF00", "0000FF"]
    assert len(set(colors(40))) == 40


@pytest.mark.parametrize("kind", ["zarr2", "zarr3"])
def test_it_describes_the_first_multiscale_of_a_group_alone(tmp_path, kind):
    path = output_path(tmp_path, kind)
    create_output(output_spec(path, kind))
    first = image_of(path.parent, kind)["omero"]
    second = path.with_name("second")
    names = {"channels": 1, "channel_names": ("mito",)}
    create_output(output_spec(second, kind, **names))
    assert image_of(path.parent, kind)["omero"] == first
    delete_output(second)
    assert image_of(path.parent, kind)["omero"] == first
    delete_output(path)
    assert "omero" not in image_of(path.parent, kind)


def test_the_channels_of_another_image_in_the_group_stay(tmp_path):
    path = output_path(tmp_path, "zarr2")
    raw = {"datasets": [{"path": "raw"}]}
    theirs = {"channels": [{"color": "808080", "label": "EM"}]}
    write_json(path.parent / ".zgroup", {"zarr_format": 2})
    write_json(path.parent / ".zattrs", {"multiscales": [raw], "omero": theirs})
    create_output(output_spec(path, "zarr2"))
    delete_output(path)
    assert image_of(path.parent, "zarr2") == {"multiscales": [raw], "omero": theirs}
