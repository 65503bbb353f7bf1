"""A run from an object store to an object store."""

from __future__ import annotations

import os
from pathlib import Path

import boto3
import numpy as np
import pytest

from tests.support.jobs import Job
from tests.support.runs import predict, read_output


@pytest.mark.slow
def test_run_verify_repair_and_extend_on_s3(bucket: str, tmp_path: Path) -> None:
    job = Job(tmp_path)
    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    for file in (tmp_path / "volume.zarr").rglob("*"):
        if file.is_file():
            client.upload_file(str(file), "bucket", str(file.relative_to(tmp_path)))
    output = f"{bucket}/out.zarr/out"
    options = [*job.options, "--input", f"{bucket}/volume.zarr/raw", "--output", output]
    options += ["--run-dir", tmp_path / "records"]
    # A block is one shard, of 8 chunks.
    options += ["--chunk-shape", "8,8,8", "--shard-shape", "16,16,16"]
    part = ("--roi", "[160:360,:170,:160]")
    predict("run", *options, *part)
    assert "4 blocks: 4 complete" in predict("verify", output, "--sample", "1")
    client.delete_object(Bucket="bucket", Key="out.zarr/out/c/0/0/1/0")
    client.put_object(Bucket="bucket", Key="out.zarr/out/c/0/1/0/0", Body=b"torn")
    report = predict("verify", output, "--repair", code=1)
    assert "4 blocks: 2 complete, 2 damaged" in report
    predict("run", *options, *part)
    # Blocks that the old end cut are done again, the whole one is kept.
    text = predict("run", *options, "--roi", "[160:400,:320,:160]")
    assert "to [160:400,0:320,0:160] nm; 1 finished blocks are kept" in text
    whole = read_output(job.undisturbed())[:, 16:, :32, :16]
    np.testing.assert_array_equal(read_output(output), whole)
    text = predict("run", *options, "--roi", "[:400,:320,:160]", code=2)
    assert "lies on an object store, where an output can be extended only at its end" in text
