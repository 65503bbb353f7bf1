"""The weights of resampling, held to what they promise and to torch's."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from blockwise_predict.geometry.resampling import AxisResampling, resample

RATIOS = st.fractions(Fraction(1, 8), 8, max_denominator=60)
FLOAT32 = np.dtype(np.float32)


def whole(axis: AxisResampling, values: np.ndarray) -> np.ndarray:
    """All new voxels of an axis, from its stored ones."""
    begin, end = axis.stored_range(0, axis.resampled_size)
    taps = axis.taps(0, axis.resampled_size)
    return resample(values[None, begin:end], [taps], np.dtype(np.float64))[0]


@given(RATIOS, st.integers(1, 40))
@example(Fraction(53, 50), 40)
@example(Fraction(10**17 + 1, 2 * 10**17), 9)
@settings(deadline=None, max_examples=30)
def test_a_ramp_stays_itself_and_a_constant_stays_exact(ratio: Fraction, size: int) -> None:
    axis = AxisResampling(size, ratio)
    count = axis.resampled_size
    centres = (np.arange(count) + 0.5) * float(ratio)
    assert (centres < size).all()
    assert size <= (count + 0.5) * float(ratio) + 1e-9
    if not count:
        return
    taps = axis.taps(0, count)
    assert (taps.weight >= 0).all()
    np.testing.assert_allclose(taps.weight.sum(axis=1), 1, rtol=1e-15)
    ramp = whole(axis, np.arange(size) + 0.5)
    half = float(max(1, ratio))
    inside = (centres >= half) & (centres <= size - half)
    np.testing.assert_allclose(ramp[inside], centres[inside], rtol=1e-13)
    # At the volume's ends, by less than half a triangle.
    assert np.abs(ramp - centres).max() <= half / 2
    assert (whole(axis, np.full(size, 251)).astype(FLOAT32) == 251).all()


@pytest.mark.parametrize("ratio", [Fraction(2), Fraction(5), Fraction(1, 2), Fraction(2, 5)])
def test_whole_ratios_and_smaller_voxels_are_those_of_torch(ratio: Fraction) -> None:
    size = 20
    data = np.random.default_rng(0).random((size, size))
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(data)[None, None],
        scale_factor=float(1 / ratio),
        mode="bilinear",
        antialias=ratio > 1,
    )
    axis = AxisResampling(size, ratio)
    begin, end = axis.stored_range(0, axis.resampled_size)
    taps = axis.taps(0, axis.resampled_size)
    found = resample(data[None, begin:end, begin:end], [taps, taps], np.dtype(np.float64))
    np.testing.assert_allclose(found[0], expected[0, 0].numpy(), atol=1e-7)


def test_voxels_of_the_same_size_are_taken_as_they_are() -> None:
    values = np.random.default_rng(0).random(9)
    np.testing.assert_array_equal(whole(AxisResampling(9, Fraction(1)), values), values)
