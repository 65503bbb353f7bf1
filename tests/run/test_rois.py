"""Several ROIs in one run."""

from __future__ import annotations

import numpy as np

from blockwise_predict.config.model import load_config
from blockwise_predict.io import read_attributes
from blockwise_predict.plan.make import make_plan
from blockwise_predict.plan.selection import select_blocks
from tests.support.jobs import Job
from tests.support.runs import predict, read_output, write_volume


def test_blocks_that_a_roi_touches_are_computed_whole(job: Job) -> None:
    expected = read_output(job.undisturbed())
    file = job.folder / "rois.csv"
    # The first voxel of the second block along y, and the last ones of the volume.
    file.write_text("z0,z1,y0,y1,x0,x1\n0,5,0,161,0,10\n390,,355,,321,\n")
    said = predict(*job.arguments("r", "--rois", file))
    assert "3 of 27 blocks are selected; 24 are left out." in said
    assert "24 blocks are left out: they are outside the ROIs." in said
    found = read_output(job.output("r"))
    touched = np.zeros(expected.shape, bool)
    touched[:, :16, :32, :16] = True
    touched[:, 32:, 32:, 32:] = True
    np.testing.assert_array_equal(found, np.where(touched, expected, 0))
    assert "27 blocks: 3 complete, 24 outside." in predict("verify", job.output("r"))
    record = read_attributes(job.output("r"))["blockwise_predict"]
    assert record["rois"] == ["[0:5,0:161,0:10]", "[390:,355:,321:]"]
    assert record["outside_blocks"] == 24


def test_rois_and_mask_within_the_smallest_box_or_the_roi(job: Job) -> None:
    data = np.ones((4, 4, 2), np.uint8)
    data[0] = 0
    mask = write_volume(job.folder / "mask.zarr", data, voxel_size=(100, 100, 200))
    rois = ["[90:120,40:200,10:50]", "[20:60,10:20,30:220]", "[250:300,10:20,30:40]"]
    given = {**job.given, "output": job.output("b"), "rois": rois, "mask": mask}
    plan = make_plan(load_config(given)).plan
    # Blocks of 160 nm from 20, 10 and 10 nm on.
    assert plan.output_grid.world_bounds(plan.output.roi) == "[20:300,10:200,10:220]"
    selection = select_blocks(plan)
    assert selection is not None
    assert not selection.warnings
    assert selection.outside.tolist() == [
        [[False, False], [False, True]],
        [[False, True], [True, True]],
    ]
    # Of the mask the first 100 nm are empty, which is less than the first blocks.
    assert not selection.masked_out.any()

    plan = make_plan(load_config({**given, "roi": "[20:80,:,:]"})).plan
    selection = select_blocks(plan)
    assert selection is not None
    assert selection.outside.sum() == 9 - 2
    assert selection.masked_out.sum() == 2
    assert not selection.computed.any()
    missed, empty = selection.warnings
    assert "2 of 3 ROIs miss the output, which spans [20:80,0:360,0:330] nm" in missed
    assert "the first of them is [90:120,40:200,10:50]." in missed
    assert "has no foreground in [20:80,0:360,0:330] nm" in empty
