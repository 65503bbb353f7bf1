"""Symmetries of a volume's axes."""

from __future__ import annotations

import pytest

from blockwise_predict.geometry.symmetry import num_symmetries, symmetries


@pytest.mark.parametrize("dims", [2, 3, 4])
@pytest.mark.parametrize("kind", ["none", "flips", "in-plane", "all"])
def test_all_are_different_and_leave_time_alone(kind: str, dims: int) -> None:
    found = symmetries(kind, dims)
    assert found[0].is_identity
    assert len(set(found)) == len(found) == num_symmetries(kind, dims)
    if dims == 4:
        assert {(each.permutation[0], each.flipped[0]) for each in found} == {(0, False)}
        assert len(found) == num_symmetries(kind, 3)
