"""Writing shards: whole, once, and whatever was there before."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import zarr

from blockwise_predict.io import OutputArray, create_output, open_input, open_output
from blockwise_predict.io.extend import grow_output
from tests.support.arrays import OUTPUT_FORMATS, output_path, output_spec, ramp

SHAPE, CHUNK, SHARD = (5, 9, 14), (4, 4, 8), (4, 8, 16)
DATA = ramp((2, *SHAPE))


@pytest.fixture
def output(tmp_path: Path) -> OutputArray:
    """An array of 2 x 2 x 1 shards of 1 x 2 x 2 chunks, the last of them cut by its end."""
    output = create_output(output_spec(output_path(tmp_path, "zarr3"), shard_shape=SHARD))
    write_all(output)
    return output


def write_all(output: OutputArray, data: np.ndarray = DATA) -> None:
    for begin in product(*(range(0, n, s) for n, s in zip(data.shape[1:], SHARD, strict=True))):
        window = tuple(slice(b, b + s) for b, s in zip(begin, SHARD, strict=True))
        output.write(begin, data[(slice(None), *window)])


def shards(output: OutputArray) -> set[str]:
    folder = Path(output.path) / "c"
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def test_each_shard_is_a_file_that_others_read(output: OutputArray) -> None:
    assert (output.chunk_shape, output.write_shape) == (CHUNK, SHARD)
    assert shards(output) == {"0/0/0/0", "0/0/1/0", "0/1/0/0", "0/1/1/0"}
    array = zarr.open_array(output.path, mode="r")
    assert (array.chunks, array.shards) == ((2, *CHUNK), (2, *SHARD))
    np.testing.assert_array_equal(array[...], DATA)
    np.testing.assert_array_equal(
        open_input(output.path).read((1, 2, 3), SHAPE), DATA[:, 1:, 2:, 3:]
    )
    assert open_output(output.path).storage.shard_shape == (2, *SHARD)
    assert output.is_stored((0, 0, 0), SHAPE)


def test_only_whole_shards_are_written(output: OutputArray) -> None:
    with pytest.raises(ValueError, match=re.escape(f"whole shards of {output.path}")):
        output.write((0, 4, 0), DATA[:, :4, 4:8])


def test_a_shard_of_zeros_is_stored(output: OutputArray) -> None:
    write_all(output, np.zeros_like(DATA))
    assert len(shards(output)) == 4
    assert output.is_stored((0, 0, 0), SHAPE)


@pytest.mark.parametrize("kept", [0, 3, 40, -1])
def test_a_torn_shard_is_noticed_and_written_again(output: OutputArray, kept: int) -> None:
    file = Path(output.path) / "c/0/0/0/0"
    good = file.read_bytes()
    file.write_bytes(good[:kept])
    with pytest.raises(ValueError, match="c/0/0/0/0"):
        output.read((0, 0, 0), CHUNK)
    write_all(output)
    assert file.read_bytes() == good


def test_shards_that_the_old_end_cut_are_removed(output: OutputArray) -> None:
    grow_output(output.path, (5, 12, 14))
    assert shards(output) == {"0/0/0/0", "0/1/0/0"}
    larger = open_output(output.path)
    assert not larger.is_stored((0, 8, 0), (4, 12, 14))
    data = ramp((2, 5, 12, 14))
    write_all(larger, data)
    np.testing.assert_array_equal(larger.read((0, 0, 0), larger.shape), data)


@pytest.mark.parametrize("kind", OUTPUT_FORMATS)
def test_chunks_that_the_old_end_cut_are_removed(kind: str, tmp_path: Path) -> None:
    output = create_output(output_spec(output_path(tmp_path, kind), kind, chunk_shape=SHARD))
    write_all(output)
    grow_output(output.path, (5, 12, 14))
    larger = open_output(output.path)
    assert larger.is_stored((0, 0, 0), (5, 8, 14))
    for z in (0, 4):
        assert not larger.is_stored((z, 8, 0), (z + 1, 12, 14))
    np.testing.assert_array_equal(larger.read((0, 0, 0), (5, 8, 14)), DATA[:, :, :8])


def test_shards_need_whole_chunks_and_zarr_3(tmp_path: Path) -> None:
    path = output_path(tmp_path, "zarr2")
    with pytest.raises(ValueError, match="are not multiples of"):
        create_output(output_spec(path, "zarr3", shard_shape=(4, 6, 16)))
    with pytest.raises(ValueError, match="zarr2 has no shards"):
        create_output(output_spec(path, "zarr2", shard_shape=SHARD))
