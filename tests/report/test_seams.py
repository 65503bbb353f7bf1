"""Seams: a planted one is found, and none in data without."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from blockwise_predict.report.quality.seams import DEPTH, Seams, differences, find_seams

FACES, EDGE = 10, 16
Slabs = list[NDArray[np.float64]]


def slabs(seed: int, blur: float, noise: float) -> Slabs:
    """The surroundings of faces in values from 0 to 1, as smooth and as noisy as is said."""
    generator = np.random.default_rng(seed)
    volume = generator.standard_normal((FACES, 2 * DEPTH + 8, EDGE, EDGE))
    if blur:
        volume = gaussian_filter(volume, (0, blur, blur, blur))
    volume = 1 / (1 + np.exp(-2 * volume / volume.std()))
    volume += noise * generator.standard_normal(volume.shape)
    return [np.clip(one[None, 4:-4], 0, 1) for one in volume]


def seams_in(found: Slabs, *, labels: bool = False) -> Seams:
    """What is found in slabs of one channel."""
    pairs = [differences(slab, 0, labels=labels) for slab in found]
    return find_seams(*(np.stack([pair[i][0] for pair in pairs]) for i in (0, 1)), 1.0)


KINDS = {
    "seed": st.integers(0, 2**20),
    "blur": st.sampled_from([0, 0.7, 1.5, 3]),
    "noise": st.sampled_from([0, 0.01, 0.1]),
}


@settings(max_examples=30)
@given(**KINDS)
def test_none_in_data_without(seed: int, blur: float, noise: float) -> None:
    found = seams_in(slabs(seed, blur, noise))
    assert found.suspicion.max() < 1
    assert not found.systematic


@settings(max_examples=15)
@given(**KINDS, face=st.integers(0, FACES - 1))
def test_a_step_at_one_face_is_found_there(seed: int, blur: float, noise: float, face: int) -> None:
    planted = slabs(seed, blur, noise)
    planted[face][:, DEPTH:] += 0.4
    found = seams_in(planted)
    assert np.flatnonzero(found.suspicion >= 1).tolist() == [face]
    assert not found.systematic


@settings(max_examples=10)
@given(seed=st.integers(0, 2**20), blur=st.sampled_from([1.5, 3]))
def test_blocks_that_do_not_fit_are_found_together(seed: int, blur: float) -> None:
    """Blocks of other values, as smooth as before, and as bright: a step at no face."""
    one, other = slabs(seed, blur, 0), slabs(seed + 1, blur, 0)
    pairs = zip(one, other, strict=True)
    found = seams_in([np.concatenate([a[:, :DEPTH], b[:, DEPTH:]], axis=1) for a, b in pairs])
    assert found.systematic
    assert found.median_ratio > 2


@pytest.mark.parametrize("value", [0.0, 0.7, np.nan, np.inf])
def test_constant_data_have_none(value: float) -> None:
    found = seams_in([np.full((1, 2 * DEPTH, 4, 4), value)] * 3)
    assert found.suspicion.max() == 0
    assert not found.systematic


def test_labels_differ_or_do_not() -> None:
    """However far apart their numbers are."""
    slab = np.zeros((1, 2 * DEPTH, 2, 2), np.uint8)
    slab[:, DEPTH:] = 200
    absolute, signed = differences(slab, 0, labels=True)
    assert absolute.tolist() == [[0, 0, 1, 0, 0]]
    assert not signed.any()


def test_integers_do_not_wrap_around() -> None:
    slab = np.array([200, 200, 200, 100, 100, 100], np.uint8).reshape(1, 6, 1)
    absolute, signed = differences(slab, 0, labels=False)
    assert absolute.tolist() == [[0, 0, 100, 0, 0]]
    assert signed.tolist() == [[0, 0, -100, 0, 0]]
