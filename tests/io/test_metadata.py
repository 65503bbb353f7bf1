"""Metadata by zarr-python: no changes are lost, and nothing is there before it is complete."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import zarr

from blockwise_predict.errors import ArrayError
from blockwise_predict.io import (
    create_output,
    open_output,
    output_exists,
    update_attributes,
    zarr_metadata,
)
from blockwise_predict.io.kvstore import replace_document
from blockwise_predict.io.ngff import multiscales_of
from tests.support.arrays import output_path, output_spec, write_json

ZARR = ["zarr2", "zarr3"]


def refusal(path: Path, kind: str) -> str:
    """What creating an output says; nothing if it succeeds."""
    try:
        create_output(output_spec(path, kind))
    except ArrayError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("kind", ZARR)
def test_one_of_many_creates_an_array(tmp_path: Path, kind: str) -> None:
    path = output_path(tmp_path, kind)
    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(lambda _: refusal(path, kind), range(8)))
    assert said.count("") == 1
    assert all("exists already" in text or "has just been created" in text for text in said if text)
    assert open_output(path).channel_names == ("aff_z", "aff_y")


@pytest.mark.parametrize("kind", ZARR)
def test_arrays_created_at_once_are_all_in_the_group(tmp_path: Path, kind: str) -> None:
    group = output_path(tmp_path, kind).parent
    names = [f"array_{number}" for number in range(6)]
    with ThreadPoolExecutor(6) as pool:
        said = list(pool.map(lambda name: refusal(group / name, kind), names))
    assert said == [""] * 6
    _, multiscales = multiscales_of(zarr.open_group(group, mode="r").attrs.asdict())
    assert sorted(entry["name"] for entry in multiscales) == names


def test_a_zarr_2_array_is_there_after_its_attributes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = output_path(tmp_path, "zarr2")

    def killed(store: Any, name: str, *rest: Any) -> bool:
        if name == ".zarray":
            raise KeyboardInterrupt
        return replace_document(store, name, *rest)

    monkeypatch.setattr(zarr_metadata, "replace_document", killed)
    with pytest.raises(KeyboardInterrupt):
        create_output(output_spec(path, "zarr2"))
    assert (path / ".zattrs").exists()
    assert not output_exists(path)
    monkeypatch.undo()
    assert create_output(output_spec(path, "zarr2")).channel_names == ("aff_z", "aff_y")


def test_a_group_keeps_what_zarr_python_does_not_know(tmp_path: Path) -> None:
    """Consolidated metadata of other arrays too, though zarr-python could not open them."""
    path = output_path(tmp_path, "zarr3")
    group = path.parent
    strange = {"zarr_format": 3, "node_type": "array", "data_type": "int128"}
    foreign = {
        "consolidated_metadata": {
            "kind": "inline",
            "must_understand": False,
            "metadata": {"a": strange},
        },
        "extension": {"name": "mine", "must_understand": False},
    }
    zarr.create_group(group, zarr_format=3, attributes={"author": "me"})
    write_json(group / "zarr.json", foreign)
    create_output(output_spec(path))
    found = json.loads((group / "zarr.json").read_text())
    assert found["extension"] == foreign["extension"]
    consolidated = found["consolidated_metadata"]
    assert consolidated.pop("metadata")["a"] == strange
    assert consolidated == {"kind": "inline", "must_understand": False}
    assert found["attributes"]["author"] == "me"
    assert found["attributes"]["ome"]["multiscales"][0]["name"] == "prediction"


@pytest.mark.parametrize("kind", ZARR)
def test_attributes_change_no_other_metadata(tmp_path: Path, kind: str) -> None:
    path = output_path(tmp_path, kind)
    create_output(output_spec(path, kind))
    file = path / (".zarray" if kind == "zarr2" else "zarr.json")
    before = json.loads(file.read_text())
    update_attributes(path, {"state": "complete"})
    after = json.loads(file.read_text())
    before.pop("attributes", None)
    assert after.pop("attributes", {"state": "complete"})["state"] == "complete"
    assert after == before


def test_metadata_that_zarr_python_cannot_read(tmp_path: Path) -> None:
    path = output_path(tmp_path, "zarr3")
    zarr.create_group(path.parent, zarr_format=3)
    write_json(path.parent / "zarr.json", {"attributes": ["none"]})
    with pytest.raises(ArrayError, match=r"cannot write .*group: "):
        create_output(output_spec(path))
