"""TIFF stacks and HDF5 datasets become arrays, and nothing that is not whole looks finished."""

from __future__ import annotations

import json
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile

from blockwise_predict.errors import ArrayError
from blockwise_predict.io import InputArray, open_input
from blockwise_predict.io.conversion import convert as module
from blockwise_predict.io.conversion.convert import block_shape, convert, plan_conversion
from blockwise_predict.io.given import Given
from tests.support.arrays import SIZE, lengths, ramp

UNKNOWN, GIVEN = Given(), Given(SIZE)
STACK = ramp((9, 70, 50), "uint16")


def converted(source: object, folder: Path, given: Given = UNKNOWN, **options: Any) -> InputArray:
    target = str(folder / "volume.zarr" / "raw")
    convert(
        plan_conversion(str(source), target, given, **options),
        **{key: value for key, value in options.items() if key == "overwrite"},
    )
    return open_input(target)


def voxels(array: InputArray) -> np.ndarray:
    return array.read((0,) * array.dims, array.shape)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bigtiff": True, "compression": "zlib", "predictor": True, "rowsperstrip": 16},
        {"compression": "lzw", "tile": (16, 32), "byteorder": ">"},
        {"byteorder": ">"},
    ],
    ids=["plain", "big-strips", "tiles", "big-endian"],
)
def test_files_of_many_pages(tmp_path: Path, options: dict[str, Any]) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK, **options)
    array = converted(tmp_path / "a.tif", tmp_path, Given(SIZE, lengths(8, -4, 0)))
    np.testing.assert_array_equal(voxels(array)[0], STACK)
    assert (array.dtype, array.voxel_size) == (STACK.dtype, SIZE)
    assert array.placement.offset == lengths(8, -4, 0)
    group = json.loads((tmp_path / "volume.zarr" / "zarr.json").read_text())
    assert group["attributes"]["ome"]["multiscales"][0]["datasets"][0]["path"] == "raw"


def test_pages_written_one_by_one(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for page in STACK:
            writer.write(page, contiguous=False)
    np.testing.assert_array_equal(voxels(converted(tmp_path / "a.tif", tmp_path, GIVEN))[0], STACK)


@pytest.mark.parametrize("pattern", ["", "/*.tif"])
def test_slices_in_the_order_of_their_numbers(tmp_path: Path, pattern: str) -> None:
    (tmp_path / "slices").mkdir()
    for index, page in enumerate(np.concatenate([STACK, STACK + 1])):
        tifffile.imwrite(tmp_path / "slices" / f"s_{index}.tif", page, compression="zlib")
    array = converted(f"{tmp_path}/slices{pattern}", tmp_path, GIVEN)
    np.testing.assert_array_equal(voxels(array)[0], np.concatenate([STACK, STACK + 1]))


def test_slices_of_different_shapes_are_refused(tmp_path: Path) -> None:
    for index in range(3):
        tifffile.imwrite(tmp_path / f"{index}.tif", STACK[0, : 60 + index // 2])
    with pytest.raises(ArrayError, match=r"2\.tif is 61 x 50 of uint16; .*0\.tif is 60 x 50"):
        converted(tmp_path, tmp_path, GIVEN)


def test_imagej_states_its_voxel_size(tmp_path: Path) -> None:
    inverse = 1 / 0.00424
    tifffile.imwrite(
        tmp_path / "a.tif",
        STACK,
        imagej=True,
        resolution=(250, inverse),
        metadata={"spacing": 0.03, "unit": "micron", "axes": "ZYX"},
    )
    array = converted(tmp_path / "a.tif", tmp_path)
    assert array.voxel_size == (30, Fraction("4.24"), 4)


def test_ome_states_voxel_size_and_channels(tmp_path: Path) -> None:
    data = np.stack([STACK, STACK[::-1]], 1)
    size = {"PhysicalSizeX": 4, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.004}
    tifffile.imwrite(
        tmp_path / "a.ome.tif",
        data,
        metadata={"axes": "ZCYX", **size, "PhysicalSizeZ": 4.24, "PhysicalSizeZUnit": "nm"},
    )
    array = converted(tmp_path / "a.ome.tif", tmp_path)
    assert array.voxel_size == SIZE
    np.testing.assert_array_equal(voxels(array), data.swapaxes(0, 1))


@pytest.mark.parametrize("name", ["a.h5/volumes/raw", "a.h5:volumes/raw", "a.h5"])
def test_hdf5(tmp_path: Path, name: str) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset("volumes/raw", data=STACK, chunks=(4, 16, 16), compression=1)
        data.attrs["element_size_um"] = (0.03, 0.004, 0.00424)
        data.attrs["offset"] = (60, 0, -4)
    array = converted(tmp_path / name, tmp_path)
    assert array.voxel_size == (30, 4, Fraction("4.24"))
    assert array.placement.offset == (60, 0, -4)
    np.testing.assert_array_equal(voxels(array)[0], STACK)


def test_hdf5_axes(tmp_path: Path) -> None:
    data = ramp((3, 8, 9, 10))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        tags = {"axes": [{"key": "c"}, {"key": "z"}, {"key": "y"}, {"key": "x"}]}
        file.create_dataset("exported", data=data).attrs["axistags"] = json.dumps(tags)
        file.create_dataset("other", data=data.transpose(1, 2, 3, 0)).attrs["resolution"] = [4] * 3
    array = converted(tmp_path / "a.h5/exported", tmp_path, GIVEN)
    np.testing.assert_array_equal(voxels(array), data)
    array = converted(tmp_path / "a.h5/other", tmp_path, axes="zyxc", overwrite=True)
    np.testing.assert_array_equal(voxels(array), data)
    with pytest.raises(ArrayError, match=r"a\.h5/exported, .*a\.h5/other"):
        converted(tmp_path / "a.h5/raw", tmp_path, GIVEN)


def test_a_voxel_size_is_required(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK)
    with pytest.raises(ArrayError, match=r"does not say its voxel size.*Pass --voxel-size"):
        converted(tmp_path / "a.tif", tmp_path)
    with pytest.raises(ArrayError, match="--axes 'zy': write one letter for each axis"):
        converted(tmp_path / "a.tif", tmp_path, GIVEN, axes="zy")
    with pytest.raises(ArrayError, match=r"has 2 values; .* z 9, y 70, x 50\. Give one for each"):
        converted(tmp_path / "a.tif", tmp_path, Given(SIZE[:2]))
    assert not (tmp_path / "volume.zarr").exists()


def test_what_is_interrupted_is_not_finished_and_goes_on(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "MEMORY_BYTES", 1)
    file = tmp_path / "a.h5"
    with h5py.File(file, "w") as writer:
        writer.create_dataset("raw", data=np.ones((70, 70, 70), "uint8"), chunks=(64, 64, 64))
    target = tmp_path / "volume.zarr" / "raw"
    broken = plan_conversion(str(file), str(target), GIVEN)
    read, calls = broken.source.read, []

    def failing(begin: Any, end: Any) -> np.ndarray:
        calls.append(begin)
        if len(calls) == 4:
            raise OSError("the disk is gone")
        return read(begin, end)

    monkeypatch.setattr(broken.source, "read", failing)
    with pytest.raises(ArrayError, match=r"cannot read .*a\.h5:/raw: the disk is gone"):
        convert(broken)
    with pytest.raises(ArrayError, match=r"is not completely converted from '.*a\.h5:/raw'"):
        open_input(target)
    again = plan_conversion(str(file), str(target), GIVEN)
    read_again, more = again.source.read, []
    monkeypatch.setattr(again.source, "read", lambda *box: more.append(box[0]) or read_again(*box))
    shown: list[tuple[int, int]] = []
    convert(again, progress=lambda *counts: shown.append(counts))
    assert shown[-1] == (8, 8)
    assert 1 <= len(more) <= 5
    assert voxels(open_input(target)).all()
    assert plan_conversion(str(file), str(target), GIVEN).finished


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK)
    converted(tmp_path / "a.tif", tmp_path, GIVEN)
    tifffile.imwrite(tmp_path / "a.tif", STACK + 1)
    with pytest.raises(ArrayError, match="converted from other data: files_sha256 differ"):
        converted(tmp_path / "a.tif", tmp_path, GIVEN)
    array = converted(tmp_path / "a.tif", tmp_path, GIVEN, overwrite=True)
    np.testing.assert_array_equal(voxels(array)[0], STACK + 1)


def test_a_truncated_file(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK, compression="zlib")
    whole = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArrayError, match=r"cannot read .*a\.tif: .*Is it complete"):
        converted(tmp_path / "a.tif", tmp_path, GIVEN)
    tifffile.imwrite(tmp_path / "a.tif", STACK)
    os.truncate(tmp_path / "a.tif", 40_000)
    with pytest.raises(ArrayError, match=r"cannot read .*a\.tif: .*Is it complete"):
        converted(tmp_path / "a.tif", tmp_path, GIVEN)


def test_blocks_keep_to_the_memory() -> None:
    assert block_shape((500, 300, 100), (64, 64, 64), 64**3) == (64, 64, 64)
    assert block_shape((500, 300, 100), (64, 64, 64), 64 * 64 * 128 * 3) == (64, 192, 128)
    assert block_shape((500, 300, 100), (64, 64, 64), 1 << 40) == (512, 320, 128)


@pytest.mark.parametrize("name", ["a.tif", "a.h5/raw", "slices"])
def test_runs_say_what_to_do_first(tmp_path: Path, name: str) -> None:
    (tmp_path / "slices").mkdir()
    for file in ("a.tif", "a.h5", "slices/1.tif"):
        (tmp_path / file).write_bytes(b"")
    with pytest.raises(ArrayError, match=rf"Run predict convert .*{name} volume\.zarr/raw first"):
        open_input(tmp_path / name)
