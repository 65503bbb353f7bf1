"""Input that is damaged or missing, or changes during a run."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import zarr

from blockwise_predict import open_checkpoint
from blockwise_predict import predict as predict_in_memory
from blockwise_predict.io import read_attributes
from tests.support.jobs import SMALL, Job
from tests.support.runs import predict, read_output, stored_bytes
from tests.support.sabotage import SLOW, at_startup


class Input:
    """Ways to spoil the input of a job: chunks of 16^3."""

    def __init__(self, job: Job) -> None:
        self.array = Path(job.input)

    def chunk(self, *index: int) -> Path:
        return next(
            p
            for p in self.array.rglob("*")
            if re.sub(r"\D+", ".", str(p.relative_to(self.array))).strip(".")
            == ".".join(map(str, index))
        )


def blank(job: Job) -> None:
    """Set the first chunk of a job's input to zeros, and store it all the same."""
    with zarr.config.set({"array.write_empty_chunks": True}):
        zarr.open_array(job.input)[:16, :16, :16] = 0


def test_a_damaged_chunk_fails_the_blocks_that_need_it_and_can_be_put_back(job: Job) -> None:
    expected = stored_bytes(job.undisturbed())
    chunk = Input(job).chunk(0, 0, 0)
    content = chunk.read_bytes()
    chunk.write_bytes(content[: len(content) // 2])
    output = predict(*job.arguments("d", "--retries", "0"), code=1)
    assert re.search(r"\[0:160,0:160,0:160\]: reading: \S+volume.zarr/raw: .*Error reading", output)
    assert "8 of 27 blocks failed" in output
    chunk.write_bytes(content)
    assert "Done: " in predict("retry", job.output("d"))
    assert stored_bytes(job.output("d")) == expected


def test_a_damaged_chunk_can_be_filled_and_that_is_recorded(job: Job) -> None:
    blank(job)
    expected = read_output(job.undisturbed())
    chunk = Input(job).chunk(0, 0, 0)
    chunk.write_bytes(b"torn")
    output = predict(*job.arguments("f", "--bad-input", "fill"))
    assert "8 of 27 blocks hold values predicted from the fill value" in output
    np.testing.assert_array_equal(read_output(job.output("f")), expected)
    record = read_attributes(job.output("f"))["blockwise_predict"]
    assert record["filled_blocks"] == 8
    assert record["filled_rois_nm"][0] == "[0:160,0:160,0:160]"
    report = predict("verify", job.output("f"))
    assert "19 complete, 8 filled" in report


def test_chunks_that_are_not_stored_are_the_fill_value_unless_blocks_shall_fail(job: Job) -> None:
    blank(job)
    expected = read_output(job.undisturbed())
    Input(job).chunk(0, 0, 0).unlink()
    output = predict(*job.arguments("m", "--bad-input", "fail"), code=1)
    assert "1 of 27 sampled chunks" in output
    assert "blocks that need such chunks will fail" in output
    assert "the chunk at voxel (0, 0, 0) is not stored" in output
    assert "run again with --bad-input fill-missing" in output
    output = " ".join(predict(*job.arguments("m")).split())
    assert "(4%) are not stored; they are read as the fill value, 0." in output
    assert (
        "8 of 27 blocks hold values predicted from the fill value, where chunks of the input are "
        "not stored: [0:160,0:160,0:160]" in output
    )
    np.testing.assert_array_equal(read_output(job.output("m")), expected)
    assert read_attributes(job.output("m"))["blockwise_predict"]["filled_blocks"] == 8


def test_missing_chunks_are_reported_in_memory_too(
    job: Job, caplog: pytest.LogCaptureFixture
) -> None:
    Input(job).chunk(0, 0, 0).unlink()
    network = open_checkpoint(job.given["checkpoint"], architecture=job.given["architecture"])
    predict_in_memory(network, job.input, block_shape=(16, 16, 16), progress=False)
    assert "8 of 27 blocks hold values predicted from the fill value" in caplog.text
    options = {"block_shape": (16, 16, 16), "progress": False, "bad_input": "skip"}
    prediction = predict_in_memory(network, job.input, **options)
    assert "8 of 27 blocks are left out" in caplog.text
    assert not prediction.data[:, :32, :32, :32].any()


def test_blocks_with_bad_input_can_be_left_out(job: Job) -> None:
    chunk = Input(job).chunk(0, 0, 0)
    content = chunk.read_bytes()
    chunk.write_bytes(b"torn")
    output = predict(*job.arguments("l", "--bad-input", "skip"))
    assert (
        "8 of 27 blocks are left out, since their input could not be read: [0:160,0:160,0:160]"
        in output
    )
    assert "holds 19 blocks of" in output
    assert "19 complete, 8 skipped" in predict("verify", job.output("l"))
    chunk.write_bytes(content)
    # Without the option they are done.
    assert "Resuming: 19 of 27" in predict(*job.arguments("l"))
    assert "27 complete" in predict("verify", job.output("l"))


@pytest.mark.slow
def test_input_that_is_changed_under_the_run_ends_it(
    job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patch:
        at_startup(patch, tmp_path, SLOW.replace("0.2", "0.5"))
        process = job.start("c")
        metadata = next(Path(job.input).glob(".zarray"), Path(job.input) / "zarr.json")
        content = metadata.read_text()
        metadata.write_text(content.replace("16", "8", 1))
        output, _ = process.communicate(timeout=100)
    assert process.returncode == 1, output
    assert (
        "has changed since the run began: its metadata say that it is stored in another way"
        in output
    )
    output = predict(*job.arguments("c"), code=2)
    assert "input metadata (sha256): was" in output
    metadata.write_text(content)
    predict(*job.arguments("c"))


def test_input_whose_values_are_others_now_is_refused_on_resume(job: Job) -> None:
    predict(*job.arguments("v", *SMALL))
    zarr.open_array(job.input)[...] = 7
    output = predict(*job.arguments("v", *SMALL), code=2)
    assert re.search(r"input: the values of the chunk at voxel \([\d,]+\) have changed", output)
