"""Writing: what is written is read back, by other libraries too, and nothing else is touched."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from blockwise_predict.errors import ArrayError
from blockwise_predict.io import (
    create_output,
    delete_output,
    open_input,
    open_output,
    output_exists,
    read_attributes,
    update_attributes,
)
from tests.support.arrays import (
    OUTPUT_FORMATS,
    SIZE,
    lengths,
    output_path,
    output_spec,
    ramp,
    write_json,
)

SHAPE = (5, 9, 14)
CHUNK = (4, 4, 8)


def chunk_begins():
    return [
        (z, y, x)
        for z in range(0, SHAPE[0], CHUNK[0])
        for y in range(0, SHAPE[1], CHUNK[1])
        for x in range(0, SHAPE[2], CHUNK[2])
    ]


def write_all(output, data):
    for begin in chunk_begins():
        window = tuple(slice(b, b + c) for b, c in zip(begin, CHUNK, strict=True))
        output.write(begin, data[(slice(None), *window)])


def files(folder):
    return {
        path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize("kind", OUTPUT_FORMATS)
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint64", "float32", "float64"])
def test_round_trip(tmp_path, kind, dtype):
    path = output_path(tmp_path, kind)
    data = ramp((2, *SHAPE), dtype)
    write_all(create_output(output_spec(path, kind, dtype=dtype)), data)
    output = open_output(path)
    np.testing.assert_array_equal(output.read((0, 0, 0), SHAPE), data, strict=True)
    np.testing.assert_array_equal(open_input(path).read((1, 2, 3), SHAPE), data[:, 1:, 2:, 3:])
    assert (output.format, output.shape, output.channels) == (kind, SHAPE, 2)
    assert (output.dtype, output.chunk_shape) == (np.dtype(dtype), CHUNK)
    assert output.voxel_size == SIZE
    assert output.offset == lengths("42.4", -8, 120)
    assert output.channel_names == ("aff_z", "aff_y")
    assert read_attributes(output.path)["made_by"] == {"run": "a"}


@pytest.mark.parametrize("kind", ["zarr2", "zarr3"])
@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32"])
def test_zarr_python_reads_it(tmp_path, kind, dtype):
    data = ramp((2, *SHAPE), dtype)
    path = output_path(tmp_path, kind)
    write_all(create_output(output_spec(path, kind, dtype=dtype)), data)
    container = zarr.open_group(path.parents[1], mode="r")
    assert container.metadata.zarr_format == int(kind[-1])
    array = container["group/prediction"]
    assert array.chunks == (2, *CHUNK)
    np.testing.assert_array_equal(array[...], data)
    if kind == "zarr3":
        assert array.metadata.dimension_names == ("c", "z", "y", "x")


@pytest.mark.parametrize("kind", OUTPUT_FORMATS)
def test_two_dimensions(tmp_path, kind):
    flat = {
        "shape": (9, 14),
        "chunk_shape": (4, 8),
        "voxel_size": SIZE[1:],
        "input_voxel_size": SIZE[1:],
        "offset": lengths(8, 12),
        "axis_names": ("y", "x"),
    }
    path = output_path(tmp_path, kind)
    output = create_output(output_spec(path, kind, **flat))
    data = ramp((2, 4, 8))
    output.write((4, 0), data)
    np.testing.assert_array_equal(open_input(path).read((4, 0), (8, 8)), data)
    assert open_input(path).placement.offset == lengths(8, 12)


@pytest.mark.parametrize("kind", OUTPUT_FORMATS)
def test_a_block_of_zeros_leaves_its_chunk(tmp_path, kind):
    path = output_path(tmp_path, kind)
    output = create_output(output_spec(path, kind))
    before = set(files(path))
    output.write((0, 4, 8), np.zeros((2, 4, 4, 6), "uint8"))
    (chunk,) = set(files(path)) - before
    names = {"zarr2": "0/0/1/1", "zarr3": "c/0/0/1/1", "n5": "1/1/0/0"}
    assert str(chunk) == names[kind]


def test_write_takes_whole_chunks_only(tmp_path):
    output = create_output(output_spec(output_path(tmp_path, "zarr3")))
    for begin, shape in [((1, 0, 0), (4, 4, 8)), ((0, 0, 0), (3, 4, 8)), ((4, 8, 8), (1, 1, 5))]:
        with pytest.raises(ValueError, match="do not cover whole chunks"):
            output.write(begin, np.ones((2, *shape), "uint8"))
    with pytest.raises(ValueError, match="are not within"):
        output.write((4, 8, 8), np.ones((2, 4, 4, 8), "uint8"))
    with pytest.raises(ValueError, match="takes 2 channels of uint8; given were 2 of float32"):
        output.write((0, 0, 0), np.ones((2, 4, 4, 8), "float32"))
    with pytest.raises(ValueError, match="given were 1 of uint8"):
        output.write((0, 0, 0), np.ones((1, 4, 4, 8), "uint8"))
    assert not output.read((0, 0, 0), SHAPE).any()


@settings(max_examples=25, deadline=None)
@given(draw=st.data(), kind=st.sampled_from(OUTPUT_FORMATS))
def test_any_blocks_of_chunks_written_by_threads(tmp_path_factory, draw, kind):
    shape = tuple(draw.draw(st.integers(1, 14)) for _ in range(3))
    chunk = tuple(draw.draw(st.integers(1, 16)) for _ in range(3))
    channels = draw.draw(st.integers(1, 3))
    names = tuple(f"channel_{index}" for index in range(channels))
    path = output_path(tmp_path_factory.mktemp("out"), kind)
    spec = output_spec(
        path, kind, shape=shape, chunk_shape=chunk, channels=channels, channel_names=names
    )
    output, data = create_output(spec), ramp((channels, *shape))
    middle = [min(-(-n // (2 * c)) * c, n) for n, c in zip(shape, chunk, strict=True)]
    halves = [
        [(b, e) for b, e in ((0, m), (m, n)) if b < e] for m, n in zip(middle, shape, strict=True)
    ]
    threads = [
        threading.Thread(
            target=output.write, args=((z[0], y[0], x[0]), data[:, slice(*z), slice(*y), slice(*x)])
        )
        for z in halves[0]
        for y in halves[1]
        for x in halves[2]
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(open_output(path).read((0, 0, 0), shape), data)


@pytest.mark.parametrize("kind", OUTPUT_FORMATS)
def test_existing_arrays_are_kept_unless_overwrite(tmp_path, kind):
    path = output_path(tmp_path, kind)
    spec = output_spec(path, kind)
    assert not output_exists(path)
    create_output(spec).write((0, 0, 0), np.ones((2, 4, 4, 8), "uint8"))
    assert output_exists(path)
    with pytest.raises(ArrayError, match=r"exists already.*--overwrite"):
        create_output(spec)
    assert open_output(path).read((0, 0, 0), (1, 1, 1)).all()
    new = create_output(spec, overwrite=True)
    assert not new.read((0, 0, 0), SHAPE).any()


def test_overwrite_may_change_the_shape(tmp_path):
    path = output_path(tmp_path, "zarr3")
    create_output(output_spec(path)).write((4, 8, 8), np.ones((2, 1, 1, 6), "uint8"))
    create_output(output_spec(path, shape=(4, 4, 8)), overwrite=True)
    assert {str(name) for name in files(path)} == {"zarr.json"}


@pytest.mark.parametrize("kind", OUTPUT_FORMATS)
def test_delete_takes_the_array_and_leaves_the_rest(tmp_path, kind):
    path = output_path(tmp_path, kind)
    other = path.with_name("other")
    create_output(output_spec(other, kind)).write((0, 0, 0), np.ones((2, 4, 4, 8), "uint8"))
    (path.parents[1] / "notes.txt").write_text("mine")
    before = files(path.parents[1])
    create_output(output_spec(path, kind)).write((0, 0, 0), np.ones((2, 4, 4, 8), "uint8"))
    delete_output(path)
    assert not path.exists()
    assert files(path.parents[1]) == before
    with pytest.raises(ArrayError, match="no zarr, N5 or precomputed array"):
        delete_output(path)


def test_the_last_multiscale_goes_with_its_array(tmp_path):
    for kind in ("zarr2", "zarr3"):
        path = output_path(tmp_path / kind, kind)
        create_output(output_spec(path, kind))
        delete_output(path)
        file = path.parent / (".zattrs" if kind == "zarr2" else "zarr.json")
        assert "multiscales" not in file.read_text()


def multiscales_of(group, kind):
    file = json.loads((group / (".zattrs" if kind == "zarr2" else "zarr.json")).read_text())
    return file["multiscales"] if kind == "zarr2" else file["attributes"]["ome"]["multiscales"]


@pytest.mark.parametrize("kind", ["zarr2", "zarr3"])
def test_the_group_keeps_what_is_not_ours(tmp_path, kind):
    path = output_path(tmp_path, kind)
    group = path.parent
    mine = {"name": "raw", "datasets": [{"path": "s0"}, {"path": "s1"}], "custom": 1}
    pyramid = {"name": "p", "datasets": [{"path": "prediction"}, {"path": "half"}]}
    attributes = {"author": "me"}
    container = zarr.create_group(group.parent, zarr_format=int(kind[-1]))
    ours = {"multiscales": [mine, pyramid]}
    container.create_group(
        "group", attributes={**attributes, **(ours if kind == "zarr2" else {"ome": ours})}
    )
    create_output(output_spec(path, kind))
    create_output(output_spec(path.with_name("second"), kind))
    create_output(output_spec(path, kind), overwrite=True)
    assert zarr.open_group(group, mode="r").attrs["author"] == "me"
    found = multiscales_of(group, kind)
    assert found[0] == mine
    paths = [[dataset["path"] for dataset in entry["datasets"]] for entry in found]
    assert paths == [["s0", "s1"], ["half"], ["prediction"], ["second"]]


@pytest.mark.parametrize("kind", OUTPUT_FORMATS)
def test_update_attributes_merges(tmp_path, kind):
    path = output_path(tmp_path, kind)
    output = create_output(output_spec(path, kind))
    threads = [
        threading.Thread(target=update_attributes, args=(path, {f"key_{index}": [index]}))
        for index in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = read_attributes(output.path)
    assert all(found[f"key_{index}"] == [index] for index in range(12))
    assert found["made_by"] == {"run": "a"}
    assert open_output(path).voxel_size == SIZE


def test_update_attributes_leaves_n5s_own_alone(tmp_path):
    path = output_path(tmp_path, "n5")
    create_output(output_spec(path, "n5"))
    with pytest.raises(ValueError, match="dimensions"):
        update_attributes(path, {"dimensions": [1]})


def test_paths_that_cannot_be_written(tmp_path):
    def refused(path, message, kind="zarr3"):
        with pytest.raises(ArrayError, match=message):
            create_output(output_spec(path, kind))

    refused(tmp_path / "out.zarr", r"is a container.*out\.zarr/prediction")
    refused(tmp_path / "plain" / "out", r"lies in no container.*plain/out\.zarr/out")
    refused(tmp_path / "out.n5" / "a", "is to be zarr3, which the name .*out.n5 contradicts")
    refused(tmp_path / "out.zarr" / "a", "is to be n5, which the name", kind="n5")
    refused("http://localhost/out.zarr/a", "http can be read only")
    zarr.create_group(tmp_path / "old.zarr", zarr_format=2)
    refused(tmp_path / "old.zarr" / "a", r"old\.zarr is zarr2, and the output is to be zarr3")
    create_output(output_spec(tmp_path / "new.zarr" / "g" / "a"))
    refused(tmp_path / "new.zarr" / "g", "is a group.*g/prediction")
    refused(tmp_path / "new.zarr" / "g" / "a" / "b", "lies inside .*g/a, which is an array")
    stray = tmp_path / "new.zarr" / "stray"
    stray.mkdir()
    (stray / "chunk").write_text("x")
    refused(stray, "holds files that are not part of an array")
    assert not (tmp_path / "plain").exists()


def test_a_path_below_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArrayError, match=r"cannot (read|write|create)"):
        create_output(output_spec(tmp_path / "file" / "out.zarr" / "a"))


def test_n5_has_no_half_precision(tmp_path):
    with pytest.raises(ArrayError, match=r"n5 cannot hold float16. Possible: uint8"):
        create_output(output_spec(output_path(tmp_path, "n5"), "n5", dtype="float16"))


@pytest.mark.parametrize(
    "changes",
    [
        {"chunk_shape": (4, 4)},
        {"channel_names": ("one",)},
        {"shape": (0, 4, 4)},
        {"attributes": {"voxel_size": [1, 1, 1]}},
    ],
)
def test_a_spec_that_contradicts_itself(tmp_path, changes):
    with pytest.raises(ValueError, match=r"per-axis|channel names|positive|written from the spec"):
        create_output(output_spec(output_path(tmp_path, "zarr3"), **changes))
    assert not list(tmp_path.iterdir())


def test_open_output_wants_channels_first(tmp_path):
    path = tmp_path / "a.zarr" / "raw"
    zarr.create_array(path, shape=(4, 4, 4), dtype="uint8", attributes={"voxel_size": [1, 1, 1]})
    with pytest.raises(ArrayError, match="first axis is its channels"):
        open_output(path)


def test_attributes_left_by_a_broken_creation_do_not_matter(tmp_path):
    path = output_path(tmp_path, "zarr2")
    write_json(path / ".zattrs", {"offset": "stale"})
    assert create_output(output_spec(path, "zarr2")).offset == lengths("42.4", -8, 120)


@pytest.mark.parametrize("kind", OUTPUT_FORMATS)
def test_a_damaged_chunk_at_the_end_of_the_array_is_replaced(kind, tmp_path):
    path = output_path(tmp_path, kind)
    data = ramp((2, *SHAPE))
    write_all(create_output(output_spec(path, kind)), data)
    before = files(tmp_path)
    for name in before:
        if name.name.isdigit():
            (tmp_path / name).write_bytes(b"torn")
    write_all(open_output(path), data)
    assert files(tmp_path) == before
    np.testing.assert_array_equal(open_output(path).read((0, 0, 0), SHAPE), data)
