"""Pyramids on an object store: made, resumed, verified and repaired."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import boto3
import pytest

from blockwise_predict.engine.compute_queue import Compute
from blockwise_predict.io.downsampled import listed_levels
from blockwise_predict.run.pyramid import build, steps
from blockwise_predict.run.pyramid.build import Watch
from blockwise_predict.run.pyramid.make import Wanted, make_pyramid
from blockwise_predict.run.stop import StopRequest
from blockwise_predict.run.verification.verify import verify
from blockwise_predict.worker.block import BlockReport
from blockwise_predict.worker.level_block import LevelProcessor
from tests.support.runs import completed_run

SIZES = {"chunk_shape": (8, 8, 8), "block_shape": (16, 16, 16), "shard_shape": (8, 16, 16)}


def test_levels_on_s3(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "BLOCK_BYTES", 1)
    monkeypatch.setattr(build, "MAX_THREADS", 2)
    records = str(tmp_path / "records")
    output = f"{bucket}/out.zarr/affs"
    completed_run(tmp_path, (34, 34, 18), output=output, run_dir=records, **SIZES)
    made: list[int] = []
    stop, stopped = StopRequest(), threading.Event()
    process_number = LevelProcessor.process_number

    def noting(self: LevelProcessor, number: int, compute: Compute) -> BlockReport:
        made.append(number)
        if len(made) == 4:
            stop.request()
        if stop.times:
            # Until no more blocks are handed out.
            stopped.wait(1)
        return process_number(self, number, compute)

    monkeypatch.setattr(LevelProcessor, "process_number", noting)
    wanted = Wanted(output, "mean", None)
    assert not make_pyramid(wanted, {"run_dir": records}, Watch(stop=stop))
    stopped.set()
    assert not listed_levels(output)
    assert 4 <= len(made) <= 6
    assert make_pyramid(wanted, {"run_dir": records}, Watch())
    # 3 x 2 shards of level 1, 2 chunks of level 2, 1 of level 3.
    assert sorted(made) == list(range(9))
    report = verify(output, run_dir=records)
    assert report.good
    assert [level.blocks for level in report.levels] == [6, 2, 1]

    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    client.delete_object(Bucket="bucket", Key="out.zarr/affs_s1/c/0/0/0/0")
    client.put_object(Bucket="bucket", Key="out.zarr/affs_s1/c/0/2/1/0", Body=b"torn")
    report = verify(output, run_dir=records, repair=True)
    assert report.levels[0].wrong == 2
    assert not listed_levels(output)
