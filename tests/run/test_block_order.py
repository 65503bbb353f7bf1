"""Columns of blocks in real runs."""

from __future__ import annotations

import numpy as np
import zarr

from blockwise_predict.plan.reading import reading_of
from blockwise_predict.records import RunDir
from tests.support.jobs import Job
from tests.support.runs import predict, read_output


def test_shards_are_read_in_columns_and_resumed_with_other_workers(job: Job) -> None:
    expected = read_output(job.undisturbed())
    sharded = zarr.create_array(
        job.folder / "sharded.zarr" / "raw",
        shape=job.raw.shape,
        dtype=job.raw.dtype,
        chunks=(8, 8, 8),
        shards=(16, 16, 32),
        attributes=zarr.open_array(job.input).attrs.asdict(),
    )
    sharded[...] = job.raw
    job.options[job.options.index("--input") + 1] = f"{job.folder}/sharded.zarr/raw"
    rois = job.folder / "rois.json"
    rois.write_text('["[0:100,:,:]"]')
    predict(*job.arguments("s", "--workers", "3", "--roi", "[:,:,:]", "--rois", rois))
    reading = reading_of(RunDir(job.run_dir("s")).plan())
    assert reading.kept_bytes
    assert np.prod(reading.order.columns) == 3
    assert "Resuming: 9 of 27" in predict(*job.arguments("s", "--workers", "2"))
    np.testing.assert_array_equal(read_output(job.output("s")), expected)
