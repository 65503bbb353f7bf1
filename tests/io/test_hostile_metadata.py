"""Arrays with malicious metadata are refused, with a message that says where."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from blockwise_predict.errors import ArrayError
from blockwise_predict.io import (
    create_output,
    missing_sample,
    open_input,
    open_output,
    sample_digests,
)
from tests.support.arrays import output_spec, write_array, write_json
from tests.support.networks import save_network
from tests.support.refusals import refused
from tests.support.runs import predict, write_volume

pytestmark = pytest.mark.usefixtures("bounded")

FUNLIB = {"voxel_size": [4, 4, 4], "offset": [0, 0, 0], "axis_names": ["z", "y", "x"]}


def array_error(path: Path) -> str:
    message = refused(ArrayError, lambda: open_input(path))
    assert str(path) in message
    return message


@pytest.mark.parametrize("kind", ["zarr2", "zarr3", "n5"])
def test_an_empty_input(kind: str, tmp_path: Path) -> None:
    path = write_array(tmp_path, kind, np.zeros((4, 4, 4), np.uint8), FUNLIB)
    name, key = {
        "zarr2": (".zarray", "shape"),
        "zarr3": ("zarr.json", "shape"),
        "n5": ("attributes.json", "dimensions"),
    }[kind]
    write_json(path / name, {key: [4, 0, 4]})
    assert "is empty: its shape is (4, 0, 4)" in array_error(path)


def test_an_empty_input_ends_a_plan(tmp_path: Path) -> None:
    weights, architecture = save_network(tmp_path)
    raw = write_volume(tmp_path / "volume.zarr", np.zeros((0, 8, 8), np.uint8))
    output = predict(
        *("plan", "--checkpoint", weights, "--architecture", architecture, "--input", raw),
        *("--output", tmp_path / "out.zarr/a"),
        code=2,
    )
    assert f"{raw} is empty: its shape is (0, 8, 8)" in output


METADATA = {
    "digits": ('{"voxel_size": [' + "9" * 400 + ", 4, 4]}", "the number 9999999999 ... .* 400"),
    "large": ('{"voxel_size": [1e40, 4, 4]}', "'voxel_size' of raw/.zattrs holds 1e.40, which is"),
    "NaN": ('{"voxel_size": [NaN, 4, 4]}', "holds nan, which is not a finite number"),
    "deep": ('{"a": ' + "[" * 100_000, "nested deeper than 64"),
    "deep and whole": ('{"a": ' + "[" * 80 + "]" * 80 + "}", "nested deeper than 64"),
    "no UTF-8": ('{"a": "\udcff"}', "is not UTF-8"),
    "half": ('{"a": "\\ud800"}', "unpaired surrogate"),
    "cut": ('{"voxel_size": [4, 4', "line 1 column 21"),
    "a list": ("[1]", "holds a JSON list; an object is needed"),
    "text": ('{"voxel_size": ["4", 4, 4]}', "holds '4', which is not a number"),
    "long": ('{"voxel_size": [' + "1," * 50_000 + "1]}", "has 50001 numbers"),
}


@pytest.mark.parametrize("case", METADATA)
def test_attributes_that_are_refused_say_where(case: str, tmp_path: Path) -> None:
    text, place = METADATA[case]
    path = write_array(tmp_path, "zarr2", np.zeros((4, 4, 4), np.uint8))
    (path / ".zattrs").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ArrayError, match=place):
        open_input(path)
    array_error(path)


def test_metadata_of_a_gigabyte_are_not_read(tmp_path: Path) -> None:
    path = write_array(tmp_path, "zarr3", np.zeros((4, 4, 4), np.uint8), FUNLIB)
    os.truncate(path / "zarr.json", 8 << 30)
    assert f"{path}/zarr.json: it has more than 16 MiB" in array_error(path)


def test_metadata_that_are_a_pipe_are_not_waited_for(tmp_path: Path) -> None:
    path = write_array(tmp_path, "zarr3", np.zeros((4, 4, 4), np.uint8), FUNLIB)
    (path / "zarr.json").unlink()
    os.mkfifo(path / "zarr.json")
    assert f"{path}/zarr.json: it is not a regular file" in array_error(path)


def test_chunks_of_absurd_size(tmp_path: Path) -> None:
    path = write_array(tmp_path, "zarr2", np.zeros((4, 4, 4), np.uint8), FUNLIB)
    write_json(path / ".zarray", {"chunks": [10_000] * 3, "shape": [20_000] * 3})
    message = array_error(path)
    assert "has chunks of (10000, 10000, 10000) voxels, 1000000000000 bytes each" in message
    assert "at most 4 GiB can be read. Store it in smaller chunks" in message


def test_large_chunks_are_not_decoded_for_a_sample(tmp_path: Path) -> None:
    path = write_array(tmp_path, "zarr2", np.zeros((4, 4, 4), np.uint8), FUNLIB)
    write_json(path / ".zarray", {"chunks": [1000] * 3, "shape": [2000] * 3})
    assert sample_digests(open_input(path)) == {}


def test_a_volume_with_more_chunks_than_can_be_counted(tmp_path: Path) -> None:
    path = write_array(tmp_path, "zarr2", np.ones((4, 4, 4), np.uint8), FUNLIB)
    write_json(path / ".zarray", {"shape": [10**12] * 3})
    array = open_input(path)
    assert missing_sample(array, (0, 0, 0), array.shape) == (63, 64)


def test_an_unknown_codec_is_named(tmp_path: Path) -> None:
    path = write_array(tmp_path, "zarr2", np.zeros((4, 4, 4), np.uint8), FUNLIB)
    write_json(path / ".zarray", {"compressor": {"id": "jpegxl", "level": 3}})
    assert "jpegxl" in array_error(path)


def test_a_scale_of_many_transformations(tmp_path: Path) -> None:
    path = write_array(tmp_path, "zarr2", np.zeros((4, 4, 4), np.uint8))
    scale = {"type": "scale", "scale": [1e29, 1e29, 1e29]}
    dataset = {"path": "raw", "coordinateTransformations": [scale] * 100_000}
    axes = [{"name": name, "type": "space", "unit": "meter"} for name in "zyx"]
    write_json(path.parent / ".zgroup", {"zarr_format": 2})
    write_json(path.parent / ".zattrs", {"multiscales": [{"axes": axes, "datasets": [dataset]}]})
    assert "multiscales[0].datasets[0] of .zattrs has 100000 transformations" in array_error(path)
    dataset["coordinateTransformations"] = [scale] * 9
    write_json(path.parent / ".zattrs", {"multiscales": [{"axes": axes, "datasets": [dataset]}]})
    assert "is not between 1e-30 and 1e+30 nm" in array_error(path)


def test_an_output_that_claims_more_channels(tmp_path: Path) -> None:
    path = tmp_path / "out.zarr" / "a"
    create_output(output_spec(path))
    write_json(path / "zarr.json", {"shape": [2**32, 5, 9, 14]})
    message = refused(ArrayError, lambda: open_output(path))
    assert f"{path} has 4294967296 channels in chunks of 2" in message
