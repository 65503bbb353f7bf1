"""neuroglancer's precomputed volumes, written by tensorstore, read as any other array."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from blockwise_predict.errors import ArrayError
from blockwise_predict.io import (
    BadInputError,
    CheckedInput,
    delete_output,
    describe_array,
    names_array,
    open_array,
    open_input,
    open_output,
)
from tests.support.arrays import PRECOMPUTED, SIZE, lengths, ramp, write_precomputed

OFFSET = {"voxel_offset": [3, -2, 7]}


def whole(array):
    return array.read((0,) * array.dims, array.shape)


@pytest.mark.parametrize("kind", PRECOMPUTED)
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint64", "float32"])
def test_round_trip(tmp_path: Path, kind: str, dtype: str) -> None:
    data = ramp((5, 9, 14), dtype)
    array = open_input(write_precomputed(tmp_path, kind, data, **OFFSET))
    assert (array.format, array.shape, array.channels) == ("precomputed", (5, 9, 14), None)
    assert (array.voxel_size, array.offset) == (SIZE, lengths("29.68", -8, 12))
    assert array.chunk_shape == (4, 4, 4)
    assert array.placement.axis_names == ("z", "y", "x")
    np.testing.assert_array_equal(whole(array), data[None], strict=True)
    np.testing.assert_array_equal(array.read((1, 2, 3), (2, 9, 7))[0], data[1:2, 2:9, 3:7])


@pytest.mark.parametrize("kind", PRECOMPUTED)
def test_channels(tmp_path: Path, kind: str) -> None:
    data = ramp((2, 5, 9, 14))
    array = open_array(write_precomputed(tmp_path, kind, data))
    assert (array.channels, array.shape) == (2, (5, 9, 14))
    np.testing.assert_array_equal(whole(array), data)
    np.testing.assert_array_equal(array.array[:], data)


@pytest.mark.parametrize("encoding", ["jpeg", "png", "compressed_segmentation"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    block = {"compressed_segmentation_block_size": [4, 4, 4]}
    segments = encoding == "compressed_segmentation"
    data = np.full((4, 4, 8), 77, "uint64" if segments else "uint8")
    more = block if segments else {}
    array = open_input(write_precomputed(tmp_path, "precomputed", data, encoding, **more))
    np.testing.assert_array_equal(whole(array)[0], data)
    assert ("compression", encoding) in describe_array(array)


def test_scales_are_named_by_their_keys(tmp_path: Path) -> None:
    write_precomputed(tmp_path, "precomputed", ramp((5, 9, 14)))
    assert open_input(tmp_path / "volume").shape == (5, 9, 14)
    half = write_precomputed(tmp_path, "precomputed", ramp((3, 5, 7)), resolution=[8, 8, 8])
    assert open_input(f"precomputed://file://{half}").shape == (3, 5, 7)
    assert names_array(half)
    with pytest.raises(
        ArrayError, match=r"2 scales\. Name one: .*/4_4_4\.24 .*/8_8_8 \(8 x 8 x 8 nm\)"
    ):
        open_input(tmp_path / "volume")
    with pytest.raises(ArrayError, match="no zarr, N5 or precomputed array"):
        open_input(tmp_path / "volume" / "16_16_16")


def test_missing_chunks_are_noticed(tmp_path: Path) -> None:
    data = np.zeros((4, 4, 32), "uint8")
    data[..., :16] = 7
    array = open_input(write_precomputed(tmp_path, "precomputed", data, written=slice(16)))
    assert array.is_stored((0, 0, 0), (4, 4, 16))
    assert not array.is_stored((0, 0, 0), (4, 4, 17))
    with pytest.raises(BadInputError, match=r"chunk at voxel .* is not stored"):
        CheckedInput(array, "fail").read((0, 0, 0), (4, 4, 32))
    np.testing.assert_array_equal(
        CheckedInput(array, "fill-missing").read((0, 0, 0), (4, 4, 32))[0], data
    )


def test_they_are_only_read(tmp_path: Path) -> None:
    path = write_precomputed(tmp_path, "precomputed", ramp((5, 9, 14)))
    for change in (open_output, delete_output):
        with pytest.raises(ArrayError, match="neuroglancer precomputed, which can only be read"):
            change(path)
    assert open_input(path).is_stored((0, 0, 0), (5, 9, 14))


def test_chunks_compressed_by_other_tools_are_named(tmp_path: Path) -> None:
    path = write_precomputed(tmp_path, "precomputed", ramp((4, 4, 4)))
    for chunk in path.iterdir():
        chunk.rename(f"{chunk}.gz")
    with pytest.raises(ArrayError, match=r"files end in \.gz.*cannot be read"):
        open_input(path)
