"""The levels of an output: where they lie, how they are listed, resumed, replaced and deleted."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
import zarr
from ome_zarr_models import open_ome_zarr

from blockwise_predict.config.model import load_config
from blockwise_predict.errors import ArrayError, RunFailedError
from blockwise_predict.io import create_output, delete_output, open_input, open_output
from blockwise_predict.io.downsampled import delete_levels, level_path, listed_levels
from blockwise_predict.records import RunDir
from blockwise_predict.run.pyramid import build, steps
from blockwise_predict.run.pyramid.build import Builders, Watch
from blockwise_predict.run.reporter import Reporter
from blockwise_predict.run.stop import StopRequest
from blockwise_predict.run.verification.levels import blocks_of
from blockwise_predict.worker import level_block
from blockwise_predict.worker.downsample import downsample
from blockwise_predict.worker.level_block import LevelProcessor
from tests.support.arrays import lengths, output_path, output_spec
from tests.support.runs import read_output, stored_bytes
from tests.support.viewers import neuroglancer_levels

SHAPE = (5, 19, 30)
# Of super-resolution, where corner and centre of a voxel differ from the input's.
PLACE = {
    "voxel_size": lengths(8, 4, 4),
    "input_voxel_size": lengths(16, 8, 8),
    "offset": lengths(40, -8, 120),
}
NAMES = ["prediction", "prediction_s1", "prediction_s2", "prediction_s3"]


def make_output(folder: Path, kind: str = "zarr3", name: str = "prediction", **changes) -> str:
    """An output full of random values, in chunks of 4 x 4 x 8."""
    path = output_path(folder, kind).with_name(name)
    spec = output_spec(path, kind, **{"shape": SHAPE, **PLACE, **changes})
    output = create_output(spec)
    data = np.random.default_rng(0).integers(0, 256, (2, *spec.shape)).astype(spec.dtype)
    for begin, end in blocks_of(output):
        output.write(begin, data[(slice(None), *map(slice, begin, end))])
    return output.path


def build_levels(path: str, method: str, count: int | None, watch: Watch | None = None) -> bool:
    """Make levels in threads of this process."""
    config = load_config({"checkpoint": "w.pt", "input": "in.zarr/raw", "output": path})
    return build.build_levels(
        {path: method},
        count,
        records=RunDir(Path(path).parent.with_name("records")),
        builders=Builders(config, threads=True),
        watch=watch or Watch(),
    )


class Lines(Reporter):
    """Keeps the messages."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)


def datasets(path: str) -> list[str]:
    """What the group of an output lists, of its first image."""
    image = open_ome_zarr(zarr.open_group(Path(path).parent, mode="r")).attributes
    image = getattr(image, "ome", image)
    return [dataset.path for dataset in image.multiscales[0].datasets]


@pytest.mark.parametrize("kind", ["zarr2", "zarr3"])
@pytest.mark.parametrize("method", ["mean", "mode"])
def test_each_level_is_that_of_the_whole_array_below(tmp_path, kind, method, monkeypatch):
    # Of a block, pieces are read.
    monkeypatch.setattr(level_block, "PIECE_BYTES", 200)
    path = make_output(tmp_path, kind)
    assert build_levels(path, method, None)
    assert datasets(path) == NAMES
    expected = read_output(path)
    for number, factors in enumerate([(1, 2, 2), (2, 2, 2), (2, 2, 2)], 1):
        expected = downsample(expected, factors, method)
        np.testing.assert_array_equal(read_output(level_path(path, number)), expected)
    assert expected.shape == (2, 2, 3, 4)


def test_levels_of_a_sharded_array_are_sharded(tmp_path):
    path = make_output(tmp_path, shard_shape=(8, 16, 16))
    assert build_levels(path, "mean", None)
    # 5 x 10 x 15, 3 x 5 x 8 and 2 x 3 x 4 voxels in chunks of 4 x 4 x 8.
    shards = [zarr.open_array(level_path(path, number)).shards for number in (1, 2, 3)]
    assert shards == [(2, 8, 12, 16), (2, 4, 8, 8), None]
    assert len(stored_bytes(level_path(path, 1))) == 1
    expected = read_output(path)
    for number, factors in enumerate([(1, 2, 2), (2, 2, 2), (2, 2, 2)], 1):
        expected = downsample(expected, factors, "mean")
        np.testing.assert_array_equal(read_output(level_path(path, number)), expected)


@pytest.mark.parametrize("kind", ["zarr2", "zarr3"])
def test_levels_begin_at_the_same_corner(tmp_path, kind):
    """neuroglancer takes translations for centres, funlib's offset is the corner."""
    path = make_output(tmp_path, kind)
    build_levels(path, "mean", 2)
    found = neuroglancer_levels(Path(path).parent)
    assert [size[1:] for size, _ in found] == [
        list(lengths(*size)) for size in ([8, 4, 4], [8, 8, 8], [16, 16, 16])
    ]
    begins = [begin[1:] for _, begin in found]
    assert begins == [list(lengths(32, -12, 116))] * 3
    level = open_input(level_path(path, 2))
    assert level.offset == PLACE["offset"]
    assert level.voxel_size == lengths(16, 16, 16)
    assert level.channel_names == ("aff_z", "aff_y")


def test_what_was_begun_is_resumed_and_no_unfinished_level_is_listed(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "MAX_THREADS", 1)
    monkeypatch.setattr(steps, "BLOCK_BYTES", 1)
    path, stop = make_output(tmp_path), StopRequest()
    process = LevelProcessor.process_number

    def process_four(self, number, compute):
        if number == 3:
            stop.request()
        # The scheduler notices at its next look.
        time.sleep(0.5 if stop.times else 0)
        return process(self, number, compute)

    with monkeypatch.context() as patch:
        patch.setattr(LevelProcessor, "process_number", process_four)
        assert not build_levels(path, "mean", None, Watch(stop=stop))
    assert datasets(path) == NAMES[:1]
    begun = stored_bytes(level_path(path, 1))
    assert 4 <= len(begun) < 12
    # A chunk that is there is not written again, also if there are to be other levels.
    for name in begun:
        Path(level_path(path, 1), name).write_bytes(b"done")
    assert build_levels(path, "mean", 1)
    assert datasets(path) == NAMES[:2]
    for name, content in begun.items():
        assert Path(level_path(path, 1), name).read_bytes() == b"done"
        Path(level_path(path, 1), name).write_bytes(content)
    assert build_levels(path, "mean", None)
    whole = make_output(tmp_path / "whole")
    build_levels(whole, "mean", None)
    for number in (1, 2, 3):
        assert stored_bytes(level_path(path, number)) == stored_bytes(level_path(whole, number))
    assert datasets(path) == NAMES


def test_blocks_that_fail_are_reported_and_tried_again(tmp_path, capfd):
    path = make_output(tmp_path)
    chunk = Path(path, "c/0/0/0/0")
    content = chunk.read_bytes()
    chunk.write_bytes(b"torn")
    with pytest.raises(RunFailedError, match=r"voxels \[0:5,0:10,0:15\] of .*_s1: .*cannot read"):
        build_levels(path, "mean", None)
    assert "Traceback" not in capfd.readouterr().err
    assert datasets(path) == NAMES[:1]
    chunk.write_bytes(content)
    assert build_levels(path, "mean", None)
    assert datasets(path) == NAMES


@pytest.mark.parametrize("record", ["blocks-*.npy", "pyramid.json"])
def test_levels_are_made_again_if_their_records_are_damaged(tmp_path, record):
    path = make_output(tmp_path)
    build_levels(path, "mean", None)
    group = zarr.open_group(Path(path).parent)
    ome = dict(group.attrs["ome"])
    ome["multiscales"][0]["datasets"] = ome["multiscales"][0]["datasets"][:1]
    group.attrs["ome"] = ome
    (file,) = (tmp_path / "out.zarr" / "records").glob(record)
    file.write_bytes(file.read_bytes()[:-1])
    assert build_levels(path, "mean", None)
    assert datasets(path) == NAMES


def test_what_an_old_ledger_records_of_a_deleted_level_does_not_count(tmp_path):
    path = make_output(tmp_path)
    build_levels(path, "mean", None)
    levels = [stored_bytes(level_path(path, number)) for number in (1, 2)]
    assert delete_levels(path)
    assert build_levels(path, "mean", None)
    assert [stored_bytes(level_path(path, number)) for number in (1, 2)] == levels


def test_more_levels_are_added_and_another_method_replaces_them(tmp_path):
    path, said = make_output(tmp_path), Lines()
    build_levels(path, "mean", 1)
    build_levels(path, "mean", 2, Watch(said))
    assert len(said.lines) == 1
    assert said.lines[0].endswith("_s2: 3 x 5 x 8 voxels of 16 x 16 x 16 nm.")
    build_levels(path, "mode", 1, Watch(said))
    assert "are replaced: they were made by mean" in said.lines[1]
    assert datasets(path) == NAMES[:2]
    first = downsample(read_output(path), (1, 2, 2), "mode")
    np.testing.assert_array_equal(read_output(level_path(path, 1)), first)
    assert not Path(level_path(path, 2)).exists()


def test_levels_go_with_their_array(tmp_path):
    path = make_output(tmp_path)
    other = make_output(tmp_path, name="other")
    build_levels(path, "mean", None)
    build_levels(other, "mean", 1)
    delete_output(path)
    names = {file.name for file in Path(path).parent.iterdir()}
    assert names == {"zarr.json", "other", "other_s1"}
    assert datasets(other) == ["other", "other_s1"]


@pytest.mark.parametrize("name", ["s0", "0", "scale0"])
def test_levels_of_a_numbered_array_count_on(tmp_path, name):
    path = make_output(tmp_path, name=name)
    build_levels(path, "mean", 2)
    stem = name.removesuffix("0")
    assert datasets(path) == [name, f"{stem}1", f"{stem}2"]
    assert [level.number for _, level in listed_levels(path)] == [1, 2]


def test_another_array_is_not_taken_for_a_level(tmp_path):
    path = make_output(tmp_path, name="s0")
    other = make_output(tmp_path, name="s1")
    before = stored_bytes(other)
    with pytest.raises(ArrayError, match=r"s1 exists, and is not a level of .*s0"):
        build_levels(path, "mean", None)
    delete_output(path)
    assert stored_bytes(other) == before


def test_consolidated_metadata_hold_the_levels(tmp_path):
    path = make_output(tmp_path, "zarr2")
    zarr.consolidate_metadata(Path(path).parent)
    build_levels(path, "mean", 2)
    group = zarr.open_consolidated(Path(path).parent)
    assert {*group.array_keys()} == {*NAMES[:3]}
    listed = group.attrs["multiscales"][0]["datasets"]
    assert [dataset["path"] for dataset in listed] == NAMES[:3]
    delete_output(path)
    assert not [*zarr.open_consolidated(Path(path).parent).array_keys()]


def test_frames_are_kept(tmp_path):
    path = make_output(
        tmp_path,
        shape=(3, 5, 9, 14),
        chunk_shape=(1, 4, 4, 8),
        voxel_size=lengths(1, 8, 4, 4),
        input_voxel_size=lengths(1, 8, 4, 4),
        offset=lengths(0, 0, 0, 0),
        axis_names=("t", "z", "y", "x"),
        time_unit="second",
    )
    build_levels(path, "mean", 1)
    assert open_output(level_path(path, 1)).shape == (3, 5, 5, 7)
    expected = downsample(read_output(path), (1, 1, 2, 2), "mean")
    np.testing.assert_array_equal(read_output(level_path(path, 1)), expected)
    entry = json.loads((Path(path).parent / "zarr.json").read_text())["attributes"]["ome"]
    scale, translation = entry["multiscales"][0]["datasets"][1]["coordinateTransformations"]
    assert scale["scale"] == [1, 1, 8, 8, 8]
    assert translation["translation"] == [0, 0, 0, 2, 2]


LEVELS = [
    {"scale": [1, 8, 4, 4], "translation": [0, 36, -10, 118]},
    {"scale": [1, 8, 8, 8], "translation": [0, 36, -8, 120]},
    {"scale": [1, 16, 16, 16], "translation": [0, 40, -4, 124]},
]
"""Where readers of OME-NGFF find the levels of an output at PLACE, nm."""


@pytest.mark.parametrize("kind", ["zarr2", "zarr3"])
def test_ome_zarr_py_reads_all_levels(tmp_path, kind):
    """`make test` installs it without what contradicts the tests' version of botocore."""
    reader = pytest.importorskip("ome_zarr.reader")
    io = pytest.importorskip("ome_zarr.io")
    path = make_output(tmp_path, kind)
    build_levels(path, "mean", 2)
    (node,) = reader.Reader(io.parse_url(Path(path).parent))()
    arrays = [path, level_path(path, 1), level_path(path, 2)]
    for found, array in zip(node.data, arrays, strict=True):
        np.testing.assert_array_equal(np.asarray(found), read_output(array))
    for found, level in zip(node.metadata["coordinateTransformations"], LEVELS, strict=True):
        assert {step["type"]: step[step["type"]] for step in found} == level
    assert [axis["name"] for axis in node.metadata["axes"]] == ["c", "z", "y", "x"]
    assert node.metadata["channel_names"] == ["aff_z", "aff_y"]
    assert node.metadata["contrast_limits"] == [[0, 255], [0, 255]]


@pytest.mark.parametrize("kind", ["zarr2", "zarr3"])
def test_ngff_zarr_reads_all_levels(tmp_path, kind):
    """It opens zarr by another library than zarr-python and tensorstore."""
    ngff_zarr = pytest.importorskip("ngff_zarr")
    path = make_output(tmp_path, kind)
    build_levels(path, "mean", 2, Watch())
    read = ngff_zarr.from_ngff_zarr(str(Path(path).parent), validate=True)
    assert [channel.label for channel in read.metadata.omero.channels] == ["aff_z", "aff_y"]
    arrays = [path, level_path(path, 1), level_path(path, 2)]
    for image, array, level in zip(read.images, arrays, LEVELS, strict=True):
        np.testing.assert_array_equal(np.asarray(image.data), read_output(array))
        assert image.dims == ("c", "z", "y", "x")
        assert image.axes_units == {"c": None, **dict.fromkeys("zyx", "nanometer")}
        for name, values in level.items():
            assert [getattr(image, name).get(axis) for axis in image.dims] == values, name
