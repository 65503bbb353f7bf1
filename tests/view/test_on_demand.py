"""Predictions on demand are those of a run, and its command is given for what is on screen."""

from __future__ import annotations

import asyncio
import itertools
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from funlib.geometry import Coordinate, Roi

from blockwise_predict.view.command import box_roi, run_command
from blockwise_predict.view.computed import OnDemand, open_on_demand, plan_on_demand
from blockwise_predict.view.demand import Abandoned
from tests.support.networks import save_network
from tests.support.runs import predict, read_output, write_volume

VOXEL_SIZE, OFFSET = (8, 4, 4.5), (80, -40, 9)
SHAPE = (30, 40, 44)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The options of a prediction with numbers that are computed from the data."""
    folder = tmp_path_factory.mktemp("demand")
    raw = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)
    weights, architecture = save_network(folder)
    return {
        "checkpoint": str(weights),
        "architecture": str(architecture),
        "input": write_volume(folder / "raw.zarr", raw, VOXEL_SIZE, OFFSET),
        "normalize": "zscore:auto",
        "device": "cpu",
        "precision": "float32",
    }


def words(given: dict[str, Any]) -> list[str]:
    pairs = ((f"--{key.replace('_', '-')}", value) for key, value in given.items())
    return [word for pair in pairs for word in pair]


def all_chunks(made: OnDemand) -> np.ndarray:
    """The whole array, from the bytes of its chunks as they are sent, `[C, *spatial]`."""
    (image,) = made.images(taken=[])
    level = image.levels[0]
    shape = (image.channels, *level.shape)
    whole = np.zeros(shape, image.dtype)

    async def read() -> None:
        async with made.demand.running():
            for place in itertools.product(*map(range, level.chunks_per_axis)):
                data = await image.chunk(0, [0, *place])
                assert data is not None
                chunk = np.frombuffer(data, image.dtype).reshape(-1, *level.chunk_shape)
                begin = Coordinate(place) * Coordinate(level.chunk_shape)
                window = Roi(begin, level.chunk_shape).intersect(Roi((0,) * 3, level.shape))
                inside = (window - begin).to_slices()
                whole[(slice(None), *window.to_slices())] = chunk[(slice(None), *inside)]

    asyncio.run(read())
    return whole


@pytest.mark.parametrize("block", ["16,16,16", None])
def test_every_byte_is_that_of_a_run(
    given: dict[str, Any], block: str | None, tmp_path: Path
) -> None:
    """Also the chunks that are chosen: the volume is one of them, and one block of the run."""
    options = given if block is None else {**given, "block_shape": block}
    made = open_on_demand(options)
    found = all_chunks(made)
    output = str(tmp_path / "out.zarr" / "prediction")
    chunks = [] if block is None else ["--chunk-shape", block]
    predict("run", *words(options), *chunks, "--output", output)
    expected = read_output(output)
    assert expected.std() > 0
    assert found.tobytes() == expected.tobytes()


def test_the_command_predicts_the_values_that_are_on_screen(
    given: dict[str, Any], tmp_path: Path
) -> None:
    made = open_on_demand({**given, "block_shape": "16,16,16"})
    center, size = {"z": 100.0, "y": 30.0, "x": 100.0}, {"z": 0.0, "y": 60.0, "x": 150.0}
    roi = box_roi(made.plan, center, size)
    # y from 0 to 60 nm is voxels 10 to 25; x from 25 to 175 nm is voxels 3.6 to 36.9.
    assert roi == Roi((0, 0, 0), (16, 32, 44))
    command = shlex.split(run_command(made.plan, made.precision.precision, roi))
    assert command[:2] == ["predict", "run"]
    # The numbers are those of the whole volume, not of the box.
    assert command[command.index("--normalize") + 1].startswith("zscore:1")
    output = str(tmp_path / "out.zarr" / "box")
    command[command.index("--output") + 1] = output
    predict(*command[1:])
    assert np.allclose(read_output(output), all_chunks(made)[:, :16, :32], atol=1e-5)


def test_a_box_beyond_the_volume_is_its_nearest_chunk(given: dict[str, Any]) -> None:
    plan = plan_on_demand({**given, "block_shape": "16,16,16"}).plan
    far = {"z": 1e6, "y": -1e6, "x": 0.0}
    nothing = dict.fromkeys("zyx", 0.0)
    assert box_roi(plan, far, nothing) == Roi((16, 0, 0), (14, 16, 16))
    assert box_roi(plan, far, dict.fromkeys("zyx", 1e9)) == plan.output.roi


def test_a_block_that_is_abandoned_ends_at_its_next_row(given: dict[str, Any]) -> None:
    made = open_on_demand(given)
    rows = 0

    def abandon() -> None:
        nonlocal rows
        rows += 1
        if rows == 2:
            raise Abandoned

    with pytest.raises(Abandoned):
        made.compute((0, 0, 0), abandon)
    assert rows == 2
    # Nothing of it is left: the next one is whole.
    (values,) = made.compute((0, 0, 0), lambda: None)
    assert values.shape == (2, *SHAPE)
    assert values.all(0).any()
