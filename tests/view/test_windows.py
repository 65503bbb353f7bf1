"""Ranges of values, and types, that neuroglancer takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from blockwise_predict.io.images import open_image
from blockwise_predict.view.layers import raw_layer
from blockwise_predict.view.served import serve_image
from blockwise_predict.view.windows import sampled_window
from tests.support.runs import write_volume


@pytest.mark.parametrize(
    ("dtype", "values", "shown"),
    [
        ("int16", [-32768], "range=[-32768, -32767]"),
        ("uint16", [65535], "range=[65534, 65535]"),
        ("uint16", [0], "range=[0, 1]"),
        ("uint32", [0, 4294967295], "range=[0, 4294967295]"),
        ("int64", [-5, 7], "range=[-5, 7]"),
        ("float64", [-1e300, 1e300], "range=[-3.40282347e+38, 3.40282347e+38]"),
        ("float32", [0.25, 0.5], "range=[0, 1]"),
    ],
)
def test_the_range_is_within_the_type(
    dtype: str, values: list[float], shown: str, tmp_path: Path
) -> None:
    data = np.resize(np.array(values, dtype), (8, 8, 8))
    image = open_image(write_volume(tmp_path / "raw.zarr", data))
    layer = raw_layer(serve_image("raw", image, for_display=True), sampled_window(image))
    assert shown in layer["shader"]


@pytest.mark.parametrize(
    ("dtype", "value", "served", "kind"),
    [
        ("int64", 5, "uint64", "segmentation"),
        ("uint64", 5, "uint64", "segmentation"),
        ("int64", -5, "float32", "image"),
        ("int32", -5, "int32", "image"),
        ("float64", 0.5, "float32", "image"),
    ],
)
def test_types_that_neuroglancer_does_not_have_are_cast(
    dtype: str, value: float, served: str, kind: str, tmp_path: Path
) -> None:
    image = open_image(write_volume(tmp_path / "raw.zarr", np.full((8, 8, 8), value, dtype)))
    found = serve_image("raw", image, for_display=True)
    assert (str(found.dtype), raw_layer(found, (0, 1))["type"]) == (served, kind)
