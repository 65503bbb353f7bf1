"""A container's consolidated metadata follow what is created, changed and deleted in it."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from blockwise_predict.io import create_output, delete_output, update_attributes
from blockwise_predict.io.extend import grow_output
from tests.support.arrays import output_path, output_spec

pytestmark = pytest.mark.parametrize("kind", ["zarr2", "zarr3"])


def container_with_consolidated_metadata(folder: Path, kind: str) -> Path:
    """A container that another program has written an array to, and consolidated."""
    container = output_path(folder, kind).parents[1]
    group = zarr.create_group(container, zarr_format=int(kind[-1]))
    group.create_array("em/raw", data=np.arange(8))
    consolidate(container)
    return container


def consolidate(container: Path) -> None:
    with warnings.catch_warnings():
        # zarr-python warns that zarr 3 does not specify it.
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(container)


def nodes(container: Path) -> dict[str, Any]:
    """Everything that a reader of the consolidated metadata sees, by path."""
    group = zarr.open_consolidated(container)
    found = {path: node.attrs.asdict() for path, node in group.members(max_depth=None)}
    return {"": group.attrs.asdict(), **found}


def test_readers_see_what_zarr_python_would_consolidate(tmp_path, kind):
    container = container_with_consolidated_metadata(tmp_path, kind)
    before = nodes(container)
    path = output_path(tmp_path, kind)
    create_output(output_spec(path, kind))
    update_attributes(path, {"complete": True})
    found = nodes(container)
    assert {*found} == {"", "em", "em/raw", "group", "group/prediction"}
    assert found["group/prediction"]["complete"] is True
    array = zarr.open_consolidated(container)["group/prediction"]
    assert (array.shape, array.dtype) == ((2, 5, 9, 14), np.uint8)
    consolidate(container)
    assert nodes(container) == found
    delete_output(path)
    assert {*nodes(container)} == {*before, "group"}


def test_an_output_that_grows(tmp_path, kind):
    container = container_with_consolidated_metadata(tmp_path, kind)
    path = output_path(tmp_path, kind)
    create_output(output_spec(path, kind))
    grow_output(str(path), (5, 9, 20))
    assert zarr.open_consolidated(container)["group/prediction"].shape == (2, 5, 9, 20)


def test_a_group_on_the_way_keeps_its_own(tmp_path, kind):
    container = container_with_consolidated_metadata(tmp_path, kind)
    path = output_path(tmp_path, kind)
    create_output(output_spec(path, kind))
    consolidate(path.parent)
    create_output(output_spec(path.with_name("second"), kind))
    assert {*nodes(path.parent)} == {"", "prediction", "second"}
    assert "group/second" in nodes(container)


def test_nothing_is_added_where_there_was_none(tmp_path, kind):
    path = output_path(tmp_path, kind)
    create_output(output_spec(path, kind))
    update_attributes(path, {"complete": True})
    assert not list(path.parents[1].rglob(".zmetadata"))
    documents = path.parents[1].rglob("zarr.json")
    assert all("consolidated_metadata" not in json.loads(d.read_text()) for d in documents)
