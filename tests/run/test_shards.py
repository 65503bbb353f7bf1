"""Shards: what is in them, and that a run with shards recovers as one with plain chunks does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import zarr

from blockwise_predict.records.rundir import identity_hash
from tests.support.jobs import Job
from tests.support.runs import predict, read_output, stored_bytes

SIZES = ("--chunk-shape", "8,8,8", "--block-shape", "32,16,32")
"""Of 125 chunks in 12 blocks."""


def shards_of(path: str) -> tuple[int, ...] | None:
    """The shards of an array, channels first."""
    shards: tuple[int, ...] | None = zarr.open_array(path, mode="r").shards
    return shards


def test_a_damaged_or_unfinished_shard_is_found_and_written_again(job: Job) -> None:
    predict(*job.arguments("s", *SIZES))
    assert shards_of(job.output("s")) == (2, 8, 16, 32), "a row of a block's chunks"
    folder = Path(job.output("s")) / "c" / "0"
    good = stored_bytes(job.output("s"))
    assert len(good) == 5 * 3 * 2
    np.testing.assert_allclose(
        zarr.open_array(job.output("s"), mode="r")[...], read_output(job.undisturbed()), atol=1e-5
    )
    # As a file system leaves them after a crash, in four of the blocks.
    without_index, almost_empty, bad_chunk = (folder / name for name in ("0/0/0", "0/2/0", "4/0/0"))
    without_index.write_bytes(without_index.read_bytes()[:-500])
    almost_empty.write_bytes(b"abc")
    bad_chunk.write_bytes(b"\xff" * 40 + bad_chunk.read_bytes()[40:])
    (folder / "0/1/1").unlink()
    report = predict("verify", job.output("s"), "--repair", code=1)
    assert "12 blocks: 8 complete, 4 damaged." in report
    # The blocks are to do, and these are what a worker that was preempted may leave.
    (folder / "0/2/0.__lock").write_bytes(b"abc")
    assert "8 of 12 blocks are done" in predict(*job.arguments("s", *SIZES))
    assert stored_bytes(job.output("s")) == good
    assert "12 blocks: 12 complete." in predict("verify", job.output("s"), "--sample", "2")


def test_thick_shards_and_a_roi_that_grows_at_both_ends(job: Job) -> None:
    options = (*SIZES, "--shard-shape", "16,16,32")
    # Its end cuts the last shards along each axis.
    predict(*job.arguments("e", *options, "--roi", "[:390,160:350,:]"))
    assert shards_of(job.output("e")) == (2, 16, 16, 32)
    told = predict(*job.arguments("e", *options))
    assert "2 finished blocks are kept" in told
    assert len(stored_bytes(job.output("e"))) == 3 * 3 * 2
    expected = read_output(job.undisturbed())
    np.testing.assert_allclose(read_output(job.output("e")), expected, atol=1e-5)
    assert "12 blocks: 12 complete." in predict("verify", job.output("e"))


def test_a_run_of_a_version_without_shards_is_resumed_as_it_is(job: Job) -> None:
    predict(*job.arguments("old", *SIZES, "--shard-shape", "none"))
    chunks = stored_bytes(job.output("old"))
    assert len(chunks) == 5 * 5 * 5
    plan, identity = (job.run_dir("old") / name for name in ("plan.json", "identity.json"))
    record = json.loads(plan.read_text())
    del record["output"]["shard_shape"], record["config"]["shard_shape"]
    plan.write_text(json.dumps(record))
    record = json.loads(identity.read_text())
    del record["identity"]["shard shape"]
    record["hash"] = identity_hash(record["identity"])
    identity.write_text(json.dumps(record))
    (Path(job.output("old")) / "c/0/4/4/4").unlink()
    predict("verify", job.output("old"), "--repair", code=1)
    # Shards would be the default of these options.
    assert "11 of 12 blocks are done" in predict(*job.arguments("old", *SIZES))
    assert stored_bytes(job.output("old")) == chunks
