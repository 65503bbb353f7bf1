"""World units, ROIs as text, snapping."""

from __future__ import annotations

from fractions import Fraction

import pytest
from funlib.geometry import Roi
from hypothesis import given
from hypothesis import strategies as st

from blockwise_predict.errors import GeometryError
from blockwise_predict.geometry.grid import (
    RequestedRoi,
    VoxelGrid,
    exact,
    format_bounds,
    format_length,
    parse_bounds,
    resolve_roi,
)

GRID = VoxelGrid(
    (Fraction(10), Fraction(4), Fraction(4)), (Fraction(100), Fraction(0), Fraction(-8))
)
VOLUME = Roi((0, 0, 0), (10, 20, 30))


def test_exact_reads_the_number_as_written() -> None:
    assert exact(4.24) == Fraction(106, 25)
    assert exact("1/3") == Fraction(1, 3)


@given(st.fractions(max_denominator=10_000))
def test_formatted_length_reads_back(value: Fraction) -> None:
    assert exact(format_length(value)) == value


@given(
    st.lists(
        st.tuples(
            st.fractions(max_denominator=1000),
            st.fractions(min_value=Fraction(1, 1000), max_denominator=1000),
        ),
        min_size=2,
        max_size=3,
    )
)
def test_bounds_survive_their_own_text(axes: list[tuple[Fraction, Fraction]]) -> None:
    begin = [b for b, _ in axes]
    end = [b + size for b, size in axes]
    assert parse_bounds(format_bounds(begin, end)) == tuple(zip(begin, end, strict=True))


def test_bounds_left_out() -> None:
    assert parse_bounds("[:, 5:, :7.5]") == (
        (None, None),
        (Fraction(5), None),
        (None, Fraction(15, 2)),
    )


@pytest.mark.parametrize("text", ["", "[1:2,3]", "[a:b]", "[1:2:3]", "1-2", "[1;2]"])
def test_what_is_not_a_roi_is_named(text: str) -> None:
    with pytest.raises(GeometryError, match="BEGIN:END"):
        parse_bounds(text)


def test_empty_roi_is_refused() -> None:
    with pytest.raises(GeometryError, match="empty"):
        parse_bounds("[5:5,0:1,0:1]")


def test_roi_on_the_grid_is_taken_as_it_is() -> None:
    roi, notes = resolve_roi(RequestedRoi.parse("[110:150,0:8,-8:112]"), GRID, VOLUME)
    assert roi == Roi((1, 0, 0), (4, 2, 30))
    assert notes == []


def test_roi_off_the_grid_is_snapped_outward_and_said_so() -> None:
    roi, notes = resolve_roi(RequestedRoi.parse("[111:119,1:7,:]"), GRID, VOLUME)
    assert roi == Roi((1, 0, 0), (1, 2, 30))
    assert len(notes) == 1
    assert "snapped outward to [110:120,0:8,-8:112]" in notes[0]


def test_roi_beyond_the_volume_is_cut_and_said_so() -> None:
    roi, notes = resolve_roi(RequestedRoi.parse("[0:120,:,:]"), GRID, VOLUME)
    assert roi == Roi((0, 0, 0), (2, 20, 30))
    assert "cut to [100:120,0:80,-8:112]" in notes[0]


def test_roi_that_misses_the_volume_is_an_error_with_the_volume() -> None:
    with pytest.raises(GeometryError, match=r"misses the volume, which spans \[100:200,0:80"):
        resolve_roi(RequestedRoi.parse("[0:100,:,:]"), GRID, VOLUME)


def test_roi_with_too_few_axes() -> None:
    with pytest.raises(GeometryError, match="2 axes, the volume has 3"):
        resolve_roi(RequestedRoi.parse("[0:10,0:10]"), GRID, VOLUME)


def test_no_roi_is_the_whole_volume() -> None:
    assert resolve_roi(None, GRID, VOLUME) == (VOLUME, [])


lengths = st.fractions(min_value=Fraction(1, 50), max_value=50, max_denominator=100)


@given(lengths, st.fractions(-100, 100, max_denominator=50), lengths, lengths)
def test_snapping_never_loses_a_part_of_the_roi(
    size: Fraction, offset: Fraction, begin: Fraction, width: Fraction
) -> None:
    grid = VoxelGrid((size,), (offset,))
    low = offset + begin
    roi, moved = grid.voxel_roi(((low, low + width),), Roi((0,), (1,)))
    (snapped_low,), (snapped_high,) = grid.world(roi.begin), grid.world(roi.end)
    assert snapped_low <= low
    assert snapped_high >= low + width
    assert low - snapped_low < size
    assert snapped_high - (low + width) < size
    assert moved == (snapped_low != low or snapped_high != low + width)


def test_super_resolution_divides_exactly() -> None:
    grid = VoxelGrid((exact(4.24), Fraction(4)), (Fraction(0), Fraction(0))).divided((2, 4))
    assert grid.voxel_size == (Fraction(53, 25), Fraction(1))
