"""Runs with a mask: what is computed, what is left out, and what another mask takes up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr

from blockwise_predict.config.model import load_config
from blockwise_predict.io import read_attributes
from blockwise_predict.records import RunDir
from blockwise_predict.run.pipelines.open_run import open_run
from blockwise_predict.run.planned import plan_run
from tests.support.jobs import Job
from tests.support.runs import predict, read_output, write_volume


def write_mask(job: Job, name: str, *foreground: tuple[slice, ...]) -> str:
    """A mask of 40 x 40 x 30 nm voxels, from 40 nm before the volume on, as uint8."""
    data = np.zeros((11, 11, 13), np.uint8)
    for place in foreground:
        data[place] = 7
    return write_volume(
        job.folder / f"{name}.zarr", data, voxel_size=(40, 40, 30), offset=(-40, -40, -40)
    )


ONE = np.s_[1, 1, 2]
"""0 to 40, 0 to 40 and 20 to 50 nm: in the first block."""
SHARED = np.s_[4, 4, 8]
"""120 to 160, 120 to 160 and 200 to 230 nm: in the second block along x."""
BEFORE = np.s_[0, :, :]
"""Before the volume begins."""


def test_only_blocks_with_foreground_are_computed_and_another_mask_takes_up_the_rest(
    job: Job,
) -> None:
    expected = read_output(job.undisturbed())
    mask = write_mask(job, "first", ONE, SHARED, BEFORE)
    plan = predict("plan", *job.options, "--output", job.output("m"), "--mask", mask)
    assert "2 blocks; 25 are masked out" in " ".join(plan.split())
    said = predict(*job.arguments("m", "--mask", mask))
    assert "2 of 27 blocks are selected; 25 are left out." in said
    assert "2/2 blocks" in said
    assert "25 blocks are left out: the mask has no foreground there." in said
    assert "holds 2 blocks of" in said
    found = read_output(job.output("m"))
    np.testing.assert_array_equal(found[:, :16, :16, :32], expected[:, :16, :16, :32])
    assert not found[:, 16:].any()
    assert not found[:, :, 16:].any()
    assert not found[:, :, :, 32:].any()
    report = predict("verify", job.output("m"), "--sample", "2")
    assert "27 blocks: 2 complete, 25 masked." in report
    assert "[0:" not in report, "blocks that are masked out are not listed"
    record = read_attributes(job.output("m"))["blockwise_predict"]
    assert (record["complete"], record["masked_out_by"], record["masked_out_blocks"]) == (
        True,
        mask,
        25,
    )

    # The first block is kept, though it is masked out now.
    other = write_mask(job, "other", np.s_[:, :, 10:12], BEFORE)
    said = predict(*job.arguments("m", "--mask", other))
    assert "Resuming: 2 of 10 blocks are done." in said
    report = predict("verify", job.output("m"))
    assert "27 blocks: 10 complete, 17 masked." in report
    record = read_attributes(job.output("m"))["blockwise_predict"]
    assert (record["masked_out_by"], record["masked_out_blocks"]) == (other, 17)

    # Without a mask all are done.
    assert "Resuming: 10 of 27 blocks are done." in predict(*job.arguments("m"))
    np.testing.assert_array_equal(read_output(job.output("m")), expected)
    record = read_attributes(job.output("m"))["blockwise_predict"]
    assert not [key for key in record if "mask" in key]


def test_a_mask_holds_when_the_roi_is_extended_and_failed_blocks_are_retried(job: Job) -> None:
    mask = write_mask(job, "mask", ONE, SHARED, np.s_[-1, -2, -2])
    predict(*job.arguments("e", "--mask", mask, "--roi", "[:160,:160,:160]"))
    chunk = next(Path(job.input).rglob("2.2.2"))
    content = chunk.read_bytes()
    chunk.write_bytes(b"torn")
    options = ("--mask", mask, "--retries", "0")
    said = predict(*job.arguments("e", *options), code=1)
    assert "1 finished blocks are kept" in said
    assert "3 of 27 blocks are selected; 24 are left out." in said
    assert "1 of 27 blocks failed" in said
    assert "Everything else is written." in said
    chunk.write_bytes(content)
    said = predict("retry", job.output("e"))
    assert "3 of 27 blocks are selected" in said
    assert "27 blocks: 3 complete, 24 masked." in predict("verify", job.output("e"))


def test_a_pipeline_gets_only_blocks_with_foreground(job: Job) -> None:
    mask = write_mask(job, "mask", ONE, SHARED)
    run = plan_run(load_config({**job.given, "output": job.output("p"), "mask": mask}))
    _, skip_mask = open_run(run, "a pipeline")
    assert np.argwhere(skip_mask == 0).tolist() == [[0, 0, 0], [0, 0, 1]]
    states = RunDir(job.run_dir("p")).block_states(run.plan)
    assert np.bincount(states).tolist() == [2, 0, 0, 0, 0, 25]


def test_a_mask_without_foreground_in_the_roi_is_told(job: Job) -> None:
    mask = write_mask(job, "mask", BEFORE)
    said = predict(*job.arguments("n", "--mask", mask))
    assert "has no foreground in [0:400,0:360,0:330] nm, so nothing is predicted." in said
    assert "The mask spans [-40:400,-40:400,-40:350] nm." in said
    assert "27 masked" in predict("verify", job.output("n"))


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({}, "Pass voxel_size in its attributes"),
        (
            {
                "voxel_size": [10, 10],
                "offset": [0, 0],
                "axis_names": ["y", "x"],
                "units": ["nm"] * 2,
            },
            "has the axes y, x in nm, which are not those of",
        ),
    ],
)
def test_a_mask_that_cannot_be_placed_is_refused(
    attributes: dict[str, object], said: str, job: Job
) -> None:
    axes = 2 if attributes else 3
    array = zarr.create_array(
        str(job.folder / "mask.zarr"), name="m", shape=(4,) * axes, dtype="u1", zarr_format=2
    )
    array.attrs.update(attributes)
    output = predict(*job.arguments("r", "--mask", job.folder / "mask.zarr" / "m"), code=2)
    assert said in output
    assert "--mask" in output
    assert not job.run_dir("r").exists()


def test_a_mask_that_cannot_be_read_is_refused(job: Job) -> None:
    mask = write_mask(job, "mask", ONE)
    next(Path(mask).rglob("0.0.0")).write_bytes(b"torn")
    output = predict(*job.arguments("d", "--mask", mask), code=2)
    assert f"--mask {mask} cannot be read" in output
