"""Several ROIs, from files and lists."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from funlib.geometry import Roi

from blockwise_predict.config.model import RunConfig, load_config
from blockwise_predict.config.rois import MAX_ROIS
from blockwise_predict.errors import ConfigError
from blockwise_predict.geometry.grid import RequestedRoi

FIRST, SECOND = "[0:10,20:30.5,0:7]", "[100:110,-20:30,0:700]"


def config(rois: object) -> RunConfig:
    return load_config({"checkpoint": "c", "input": "i", "output": "o.zarr/o", "rois": rois})


def texts(rois: object) -> list[str]:
    found = config(rois)
    # What the records hold gives the same again.
    assert config(found.model_dump(mode="json")["rois"]).rois == found.rois
    return [str(roi) for roi in found.rois or ()]


def test_rois_from_a_csv_file(tmp_path: Path) -> None:
    file = tmp_path / "rois.csv"
    file.write_text(
        "\ufeffname, x0, x1, z0, z1, y0, y1\n"
        "cell 1, 0, 7, 0, 10, 20, 30.5\n\n"
        "cell 2,0,700,100,110,-20,30\n"
    )
    assert texts(str(file)) == [FIRST, SECOND]


@pytest.mark.parametrize(
    "items", [[FIRST, SECOND], [[0, 10, 20, 30.5, 0, 7], [100, 110, -20, 30, 0, 700]]]
)
def test_rois_from_json_and_from_a_list(items: list[Any], tmp_path: Path) -> None:
    file = tmp_path / "rois.json"
    file.write_text(json.dumps(items))
    assert texts(str(file)) == texts(items) == [FIRST, SECOND]


def test_rois_of_python() -> None:
    assert texts([Roi((1, 2, 3), (4, 5, 6))]) == ["[1:5,2:7,3:9]"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", "", "must end in .csv or .json"),
        ("a.csv", "z0,z1,y0,y1,x0\n1,2,3,4,5\n", "lacks x1: it must name the columns"),
        ("a.csv", "1,2,3,4,5,6\n", "lacks z0, z1, y0, y1, x0, x1"),
        ("a.csv", "", "lacks z0"),
        ("a.csv", "z0,z1,y0,y1,x0,x1\n", "a list of 1 to"),
        ("a.csv", "z0,z1,y0,y1,x0,x1\n1,2,3,4,5,x\n", "'5:x' is not BEGIN:END in nm"),
        ("a.csv", "z0,z1,y0,y1,x0,x1\n1,2,3,4,5\n", None),
        ("a.csv", "z0,z1,y0,y1,x0,x1\n2,1,3,4,5,6\n", "is empty"),
        ("a.json", "[1, 2", "is not valid"),
        ("a.json", '{"z0": 1}', "a list of 1 to"),
        ("a.json", "[[1, 2, 3]]", "is not z0, z1, y0, y1, x0, x1"),
        ("a.json", "[7]", "is not a ROI"),
        ("a.json", None, "cannot be read (No such file"),
        ("a.json", b"\xff", "is not valid"),
        ("a.json", json.dumps([FIRST] * (MAX_ROIS + 1)), "a list of 1 to"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(
    name: str, content: str | bytes | None, said: str | None, tmp_path: Path
) -> None:
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    if said is None:
        # A bound that is left out is the volume's.
        assert texts(str(file)) == ["[1:2,3:4,5:]"]
        return
    with pytest.raises(ConfigError, match="--rois") as error:
        config(str(file))
    assert said in str(error.value)


def test_the_roi_around_several() -> None:
    rois = [RequestedRoi.parse(text) for text in ("[0:10,2:3,:5]", "[4:20,1:2.5,3:9]")]
    assert str(RequestedRoi.around(rois)) == "[0:20,1:3,:9]"
    assert RequestedRoi.around(rois).bounds == RequestedRoi.parse("[0:20,1:3,:9]").bounds
