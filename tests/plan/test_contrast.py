"""Black frames and jumps of brightness or contrast along z."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr

from blockwise_predict.geometry.grid import RequestedRoi
from blockwise_predict.io import ChunkGrid, open_array, open_in_memory
from blockwise_predict.plan.contrast import contrast_warnings
from blockwise_predict.plan.make import make_plan
from blockwise_predict.plan.model import Plan
from tests.support.runs import tiny_config, write_volume
from tests.support.shared import shared_path

Change = Callable[[np.ndarray], None]


class Chunked:
    """An array in memory, in chunks of a shape."""

    def __init__(self, data: np.ndarray, chunk_shape: tuple[int, ...]) -> None:
        self._array = open_in_memory(data, voxel_size=(8, 4, 4), offset=(1000, 0, 0))
        self.chunk_shape = chunk_shape

    def __getattr__(self, name: str) -> object:
        return getattr(self._array, name)


def told(data: np.ndarray, chunk_shape: tuple[int, ...] = (16, 32, 32)) -> str:
    array = Chunked(data, chunk_shape)
    return " | ".join(contrast_warnings(ChunkGrid(array, (0,) * data.ndim, data.shape)))


@pytest.fixture(scope="module")
def texture() -> np.ndarray:
    """A volume whose planes change slowly, as tissue does."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(96, 70, 66)).cumsum(axis=0)
    slow = noise - np.concatenate([np.zeros((12, 70, 66)), noise[:-12]])
    return (120 + 8 * slow + rng.normal(0, 8, slow.shape)).clip(1, 255)[16:].astype(np.float32)


def blacken(volume: np.ndarray) -> None:
    volume[30:33] = 0
    volume[50] = 0


def brighten(volume: np.ndarray) -> None:
    volume[41:] += 35


def weaken(volume: np.ndarray) -> None:
    volume[41:] = 120 + (volume[41:] - 120) * 0.5


def pad(volume: np.ndarray) -> None:
    volume[:, :40] = 0


@pytest.mark.parametrize("chunk_shape", [(16, 32, 32), (1, 70, 66), (80, 70, 66)])
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (blacken, "all sampled chunks: z 30..32 (1240..1264 nm, value 0), 50 (1400..1408 nm"),
        (brighten, "sampled planes: z 40..41 (1320..1328 nm: mean "),
        (weaken, "sampled planes: z 40..41 (1320..1328 nm: std "),
        (pad, ""),
        (lambda _: None, ""),
    ],
)
def test_what_is_conspicuous_is_told_with_its_place(
    change: Change, expected: str, chunk_shape: tuple[int, ...], texture: np.ndarray
) -> None:
    volume = texture.copy()
    change(volume)
    for dtype in (np.uint8, np.float32):
        found = told(volume.clip(0, 255).astype(dtype), chunk_shape)
        assert expected in found
        assert (found == "") == (expected == "")
        assert found.count("nm") <= 2


def test_arrays_of_noise_or_few_objects_are_not_conspicuous() -> None:
    for seed in range(4):
        rng = np.random.default_rng(seed)
        assert told(rng.integers(0, 256, (40, 36, 33), np.uint8), (16, 16, 16)) == ""
        sparse = np.zeros((64, 64, 64), np.uint8)
        for z, y, x in rng.integers(0, 56, (20, 3)):
            sparse[z : z + 8, y : y + 8, x : x + 8] = 200
        assert told(sparse, (16, 16, 16)) == ""
    assert "hold one value, 0" in told(np.zeros((64, 64, 64), np.uint8), (16, 16, 16))


def test_chunks_that_are_not_stored_are_no_black_frames(tmp_path: Path) -> None:
    raw = np.random.default_rng(0).integers(0, 256, (48, 20, 20), np.uint8)
    path = write_volume(tmp_path / "v.zarr", raw)
    for file in Path(path).glob("1.*"):
        file.unlink()
    assert list(contrast_warnings(ChunkGrid(open_array(path), (0, 0, 0), raw.shape))) == []


def test_a_plan_warns_of_black_frames_in_the_roi_only(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, (40, 24, 23))
    zarr.open_array(config.input)[5] = 0
    (warning,) = make_plan(config).plan.warnings
    assert warning.startswith(f"{config.input}: planes of one value, black frames")
    assert "z 5 (50..60 nm, value 0)" in warning
    roi = RequestedRoi.parse("[100:,:,:]")
    assert make_plan(config.model_copy(update={"roi": roi})).plan.warnings == ()


def test_a_run_that_is_resumed_warns_without_reading(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, (40, 24, 23))
    frame = zarr.open_array(config.input)
    kept, frame[5] = frame[5], 0
    first = make_plan(config).plan
    recorded = Plan.model_validate_json(first.model_dump_json())
    # What it would not find again.
    frame[5] = kept
    assert make_plan(config, recorded).plan.warnings == first.warnings != ()
    part = config.model_copy(update={"roi": RequestedRoi.parse("[:300,:,:]")})
    assert make_plan(part, recorded).plan.contrast == ()
    older = recorded.model_copy(update={"contrast": None})
    assert make_plan(config, older).plan.warnings == ()


def test_real_tissue_is_not_conspicuous() -> None:
    array = open_array(shared_path("data/flyem-medulla.zarr/sample1/raw"))
    raw = array.read((0, 0, 0), array.shape)[0]
    assert list(contrast_warnings(ChunkGrid(array, (0, 0, 0), array.shape))) == []
    assert told(raw, (16, 16, 16)) == ""
    darker = raw.copy()
    darker[120:] = darker[120:] * 0.6
    assert "z 119..120 (1952..1960 nm: mean 1" in told(darker, (64, 64, 64))
