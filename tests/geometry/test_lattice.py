"""Tiles cover blocks exactly once, and always from the same lattice."""

from __future__ import annotations

import numpy as np
from funlib.geometry import Roi
from hypothesis import given
from hypothesis import strategies as st

from blockwise_predict.geometry.lattice import AxisLattice, Lattice


@st.composite
def axis_lattices(draw: st.DrawFn) -> AxisLattice:
    period = draw(st.integers(1, 9))
    scale = draw(st.integers(1, 3))
    low = draw(st.integers(0, 25))
    high = draw(st.integers(0, 25))
    cell = period * scale
    fixed = draw(st.booleans())
    smallest = -(-(cell + low + high) // scale)
    size = smallest + period * draw(st.integers(0, 5))
    lattice = AxisLattice(period, scale, low, high, cell, size, fixed)
    if fixed:
        lattice = AxisLattice(period, scale, low, high, lattice.stride, size, fixed)
    return lattice


@given(axis_lattices(), st.integers(-60, 60), st.integers(1, 90))
def test_axis_cover_keeps_each_voxel_once(axis: AxisLattice, begin: int, length: int) -> None:
    tiles = axis.cover(begin, begin + length)
    kept = [v for tile in tiles for v in range(tile.keep_begin, tile.keep_end)]
    assert kept == list(range(begin, begin + length))
    for tile in tiles:
        assert (tile.output_begin - axis.phase) % axis.step == 0
        assert tile.input_begin * axis.scale + axis.low == tile.output_begin
        assert tile.output_begin <= tile.keep_begin
        assert tile.keep_end <= tile.output_begin + axis.output_size(tile.input_size)
        assert tile.input_size <= axis.input_size
        assert (axis.input_size - tile.input_size) % axis.period == 0


@given(axis_lattices(), st.integers(-60, 60), st.integers(1, 500))
def test_what_is_read_is_known_without_listing_the_passes(
    axis: AxisLattice, begin: int, length: int
) -> None:
    tiles = axis.cover(begin, begin + length)
    assert len(tiles) == axis.num_passes(begin, begin + length)
    first = min(tile.input_begin for tile in tiles)
    end = max(tile.input_begin + tile.input_size for tile in tiles)
    assert axis.input_range(begin, begin + length) == (first, end)


@given(axis_lattices(), st.integers(-60, 60), st.integers(1, 40), st.integers(1, 40))
def test_fixed_axis_gives_a_voxel_the_same_tile_from_every_block(
    axis: AxisLattice, begin: int, length: int, shift: int
) -> None:
    fixed = AxisLattice(
        axis.period, axis.scale, axis.low, axis.high, axis.stride, axis.input_size, fixed=True
    )

    def tile_of(start: int) -> dict[int, tuple[int, int]]:
        return {
            v: (t.output_begin, t.input_size)
            for t in fixed.cover(start, begin + shift + length)
            for v in range(t.keep_begin, t.keep_end)
        }

    whole, part = tile_of(begin), tile_of(begin + shift)
    assert all(whole[v] == tile for v, tile in part.items())


@given(axis_lattices(), st.integers(1, 200))
def test_whole_passes_stay_inside_and_leave_out_nothing(axis: AxisLattice, volume: int) -> None:
    begin, end = axis.whole_passes(volume)
    cell = axis.size_for(axis.step)

    def fits(point: int) -> bool:
        first = axis.input_begin(point)
        return first >= 0 and first + cell <= volume

    points = [axis.phase + n * axis.step for n in range(-70, 470)]
    cells = [point for point in points if fits(point)]
    if not cells:
        assert end <= begin
    else:
        assert (begin, end) == (cells[0], cells[-1] + axis.step)


@given(st.lists(axis_lattices(), min_size=2, max_size=3), st.data())
def test_cover_of_a_block_writes_each_voxel_once(
    axes: list[AxisLattice], data: st.DataObject
) -> None:
    lattice = Lattice(tuple(axes))
    begin = data.draw(st.tuples(*[st.integers(-20, 20)] * len(axes)))
    shape = data.draw(st.tuples(*[st.integers(1, 25)] * len(axes)))
    block = Roi(begin, shape)
    counts = np.zeros(shape, int)
    read = lattice.read_roi(block)
    for tile in lattice.cover(block):
        counts[(tile.keep - block.begin).to_slices()] += 1
        assert tile.keep.shape == tile.crop.shape
        assert read.contains(tile.read)
    assert (counts == 1).all()


def test_output_begins_at_multiples_of_the_period() -> None:
    # Two levels of factor 2, two 3x3x3 convolutions each: 40 voxels of context, period 4.
    axis = AxisLattice(period=4, scale=1, low=20, high=20, step=4, input_size=100)
    assert [t.output_begin for t in axis.cover(7, 130)] == [4, 64, 124]
    assert [t.input_begin for t in axis.cover(7, 130)] == [-16, 44, 104]
    assert [t.input_size for t in axis.cover(7, 130)] == [100, 100, 48]
