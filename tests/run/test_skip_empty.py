"""Blocks whose input is nothing but the fill value, and --skip-empty."""

from __future__ import annotations

import numpy as np
import pytest
import zarr
from funlib.geometry import Roi

from blockwise_predict.io import read_attributes
from blockwise_predict.records import RunDir
from blockwise_predict.worker.block import _is_constant
from tests.support.jobs import Job
from tests.support.runs import predict, read_output


def test_blocks_that_read_nothing_but_the_fill_value_are_left_out(job: Job) -> None:
    data = np.zeros_like(job.raw)
    # One voxel, at a corner of the volume.
    data[-1, -1, -1] = 200
    with zarr.config.set({"array.write_empty_chunks": True}):
        zarr.open_array(job.input)[...] = data
    expected = read_output(job.undisturbed())
    said = predict(*job.arguments("e", "--skip-empty", "--workers", "2"))
    plan = RunDir(job.run_dir("e")).plan()
    volume = Roi((0, 0, 0), data.shape)
    empty = [
        block
        for block in plan.blocks()
        if not data[plan.lattice.read_roi(block).intersect(volume).to_slices()].any()
    ]
    assert 0 < len(empty) < 27
    assert f"{len(empty)} blocks are left out: their input is empty." in said
    assert f"holds {27 - len(empty)} blocks of" in said
    for block in empty:
        expected[(slice(None), *block.to_slices())] = 0
    np.testing.assert_array_equal(read_output(job.output("e")), expected)
    report = predict("verify", job.output("e"))
    assert f"{27 - len(empty)} complete, {len(empty)} empty." in report
    record = read_attributes(job.output("e"))["blockwise_predict"]
    assert record["complete"]
    assert record["empty_blocks"] == len(empty)

    # Without the option they are done.
    assert f"Resuming: {27 - len(empty)} of 27" in predict(*job.arguments("e"))
    assert "27 complete." in predict("verify", job.output("e"))


@pytest.mark.parametrize("value", [np.uint8(7), np.float32(-1), np.float32(np.nan)])
def test_whether_input_is_empty(value: np.generic) -> None:
    data = np.full((1, 3, 3, 3), value)
    assert _is_constant(data, value)
    data[0, 2, 2, 2] = 1
    assert not _is_constant(data, value)
    data[...], data[0, 0, 0, 0] = value, 1
    assert not _is_constant(data, value)
