"""OME-NGFF 0.6: coordinate systems, and what leads to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from blockwise_predict.errors import ArrayError
from blockwise_predict.io import TrainedSize, open_array, open_source
from tests.support.arrays import lengths, ramp
from tests.support.pyramids import SPACE, write_group

SHAPE = (8, 10, 12)
SCALE = {"type": "scale", "scale": [0.004, 0.002, 0.002]}
MOVE = {"type": "translation", "translation": [1, 0, 0.5]}


def leading(step: dict[str, Any], path: str = "s0", system: str = "intrinsic") -> dict[str, Any]:
    """A transformation of a level, as 0.6 writes it."""
    return {**step, "input": {"path": path}, "output": {"name": system}}


def sequence(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"type": "sequence", "transformations": list(steps)}


def image(levels: dict[str, dict[str, Any]], **more: Any) -> dict[str, Any]:
    """The metadata of an image whose levels have one transformation each."""
    return {
        "name": "image",
        # As in the specification's example, the intrinsic system need not be the first.
        "coordinateSystems": [
            {"name": "physical", "axes": [{**axis, "unit": "meter"} for axis in SPACE]},
            {"name": "intrinsic", "axes": SPACE},
        ],
        "datasets": [
            {"path": path, "coordinateTransformations": [step]} for path, step in levels.items()
        ],
        **more,
    }


def place(folder: Path, step: dict[str, Any], **more: Any):
    group = write_group(
        folder / "image.zarr", {"s0": ramp(SHAPE)}, [image({"s0": step}, **more)], "0.6"
    )
    return open_array(group / "s0").placement


@pytest.mark.parametrize(
    ("step", "offset"),
    [
        (leading(SCALE), (0, 0, 0)),
        (leading(sequence(SCALE, MOVE)), (1000, 0, 500)),
        (leading(sequence(MOVE, SCALE)), (4, 0, 1)),
        (leading(sequence({"type": "identity"}, sequence(SCALE), MOVE)), (1000, 0, 500)),
        # Drafts named the systems without an object.
        ({**sequence(SCALE, MOVE), "input": "0", "output": "intrinsic"}, (1000, 0, 500)),
    ],
)
def test_the_steps_to_the_intrinsic_system(tmp_path: Path, step: dict, offset: tuple) -> None:
    found = place(tmp_path, step)
    assert found.voxel_size == lengths(4, 2, 2)
    assert found.offset == lengths(*offset)
    assert found.notes == ()


def test_an_identity_is_one_unit(tmp_path: Path) -> None:
    assert place(tmp_path, leading({"type": "identity"})).voxel_size == lengths(1000, 1000, 1000)


def test_further_systems_are_not_applied(tmp_path: Path) -> None:
    further = {"type": "affine", "affine": [[1, 2, 3, 4]] * 3}
    further |= {"input": {"name": "intrinsic"}, "output": {"name": "physical"}}
    found = place(tmp_path, leading(sequence(SCALE, MOVE)), coordinateTransformations=[further])
    assert found.offset == lengths(1000, 0, 500)
    assert "coordinate system 'intrinsic', not of 'physical'" in found.notes[0]


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (leading({"type": "affine", "affine": []}), "'affine' is not understood; only identity"),
        (leading(sequence(SCALE, {"type": "rotation"})), "'rotation' is not understood"),
        (leading(SCALE, system="world"), "leads to 'world', which is no coordinate system"),
        ({**SCALE, "output": ["intrinsic"]}, "leads to None"),
        (leading(sequence()), "does not say its voxel size"),
        ({**sequence(), "transformations": 3, "output": "intrinsic"}, "does not say"),
        (leading(sequence(*[SCALE] * 40)), "transformations; at most 16"),
    ],
)
def test_steps_that_cannot_be_used(tmp_path: Path, step: dict, message: str) -> None:
    with pytest.raises(ArrayError, match=message):
        place(tmp_path, step)


def test_the_level_of_a_group(tmp_path: Path) -> None:
    coarse = {"type": "scale", "scale": [0.004, 0.004, 0.004]}
    levels = {"s0": leading(SCALE), "s1": leading(coarse, "s1")}
    arrays = {"s0": ramp(SHAPE), "s1": ramp((8, 5, 6))}
    group = write_group(tmp_path / "image.zarr", arrays, [image(levels)], "0.6")
    assert open_source(group, TrainedSize(lengths(4, 4, 4), "a file")).path == f"{group}/s1"
