"""Which blocks a mask touches, beside a comparison of every voxel with every block."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockwise_predict.geometry.grid import VoxelGrid
from blockwise_predict.io import open_in_memory
from blockwise_predict.plan import masks
from blockwise_predict.plan.masks import foreground_blocks, touched_voxels

LENGTHS = st.fractions(Fraction(1, 3), 9, max_denominator=4)


class Mask:
    """A mask in memory, stored in chunks, that counts what is read of it."""

    def __init__(self, data: np.ndarray, chunk: tuple[int, ...]) -> None:
        self.path, self.dtype, self.channels = "mask", data.dtype, data.shape[0]
        self.shape, self.chunk_shape = data.shape[1:], chunk
        self.largest = self.reads = 0
        self._data = data

    def read(self, begin: Any, end: Any) -> np.ndarray:
        part = self._data[(slice(None), *map(slice, begin, end))]
        self.largest = max(self.largest, part.nbytes)
        self.reads += 1
        return part


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_block_is_found_if_a_voxel_of_the_mask_that_is_not_0_touches_it(
    data: st.DataObject,
) -> None:
    dims = data.draw(st.integers(2, 3))
    triples = st.tuples(*[LENGTHS] * dims)
    size, offset, block = (data.draw(triples) for _ in range(3))
    shape = data.draw(st.tuples(*[st.integers(1, 7)] * dims))
    chunk = data.draw(st.tuples(*[st.integers(1, 4)] * dims))
    begin = data.draw(st.tuples(*[st.fractions(-9, 20, max_denominator=3)] * dims))
    counts = data.draw(st.tuples(*[st.integers(1, 6)] * dims))
    voxels = np.zeros((2, *shape), np.float32)
    for place in data.draw(st.lists(st.tuples(*(st.integers(0, n - 1) for n in (2, *shape))))):
        voxels[place] = -0.5
    grid = VoxelGrid(size, offset)
    edges = [
        [(begin[axis] + n * block[axis], begin[axis] + (n + 1) * block[axis]) for n in range(count)]
        for axis, count in enumerate(counts)
    ]
    ranges = [touched_voxels(edges[axis], grid, axis, shape[axis]) for axis in range(dims)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(masks, "WINDOW_BYTES", data.draw(st.sampled_from([1, 40, 200, 1 << 20])))
        found = foreground_blocks(Mask(voxels, chunk), ranges)  # type: ignore[arg-type]
    expected = np.zeros(counts, bool)
    foreground = [grid.world(tuple(map(int, place[1:]))) for place in np.argwhere(voxels)]
    for place in product(*map(range, counts)):
        expected[place] = any(
            all(
                low < edges[axis][place[axis]][1] and low + size[axis] > edges[axis][place[axis]][0]
                for axis, low in enumerate(corner)
            )
            for corner in foreground
        )
    np.testing.assert_array_equal(found, expected)


def test_a_mask_is_read_once_in_windows_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masks, "WINDOW_BYTES", 16 * 16 * 48)
    empty = Mask(np.zeros((1, 64, 64, 64), np.uint8), (16, 16, 16))
    # 8^3 blocks of 8^3 voxels, in which the windows' borders lie.
    every = np.arange(0, 64, 8)
    ranges = [(every, every + 8)] * 3
    assert not foreground_blocks(empty, ranges).any()  # type: ignore[arg-type]
    assert empty.reads == 4 * 4 * 2
    assert empty.largest == 16 * 16 * 48
    full = Mask(np.ones((1, 64, 64, 64), np.uint8), (16, 16, 16))
    # One block: after the first window nothing is left to find.
    whole = [(np.array([0]), np.array([64]))] * 3
    assert foreground_blocks(full, whole).all()  # type: ignore[arg-type]
    assert full.reads == 1


def test_a_mask_of_frames_and_one_for_every_frame() -> None:
    from blockwise_predict.plan.selection import _in_mask

    def plan(**frames: Any) -> Any:
        grid = VoxelGrid((Fraction(2), *[Fraction(10)] * 3), (Fraction(0),) * 4, "second")
        return SimpleNamespace(
            output_grid=grid,
            blocks_per_axis=(3, 2, 1, 1),
            block_range=lambda axis, place: (
                (place, place + 1) if axis == 0 else (place * 4, place * 4 + 4)
            ),
            **frames,
        )

    data = np.zeros((2, 1, 1), np.uint8)
    data[1] = 1
    every = open_in_memory(data, voxel_size="40,40,40", offset=None, axis_names=["z", "y", "x"])
    found = _in_mask(plan(), every)
    assert found[:, :, 0, 0].tolist() == [[False, True]] * 3
