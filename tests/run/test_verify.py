"""`predict verify`: what it finds, repairs and reports, also where blocks cannot be recomputed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from blockwise_predict.io import read_attributes, update_attributes
from blockwise_predict.records.provenance import ATTRIBUTE
from tests.support.jobs import SMALL, Job
from tests.support.runs import blocks_done, predict, read_output, stored_bytes

AUTO = ("--precision", "auto", "--roi", "[:320,:160,:160]")
"""Two blocks, in the precision that the first worker finds."""


def test_a_run_that_has_ended_tells_its_precision_without_its_record(job: Job) -> None:
    predict(*job.arguments("p", *AUTO))
    (job.run_dir("p") / "precision.json").unlink()
    for _ in range(2):
        report = predict("verify", job.output("p"), "--sample", "2")
        assert "2 blocks: 2 complete." in report
        assert "2 blocks were computed again and compared." in report
        # A run that has nothing left to do must not forget it.
        predict(*job.arguments("p", *AUTO))


def test_without_the_precision_the_rest_of_the_report_is_shown(job: Job) -> None:
    predict(*job.arguments("p", *AUTO))
    record = job.run_dir("p") / "precision.json"
    kept = record.with_name("kept.json")
    record.rename(kept)
    made = read_attributes(job.output("p"))[ATTRIBUTE]
    unsettled = {"precision": {"precision": "auto"}}
    update_attributes(job.output("p"), {ATTRIBUTE: {**made, **unsettled}})
    report = predict("verify", job.output("p"), "--sample", "1", code=1)
    assert "2 blocks: 2 complete." in report
    unknown = f"the precision of the run's blocks is unknown: {record} is missing"
    assert f"No block could be computed again: {unknown}" in report
    assert "Restore the file from a backup." in report
    kept.rename(record)
    assert "1 blocks were computed again" in predict("verify", job.output("p"), "--sample", "1")
    record.write_text('{"precision": "octuple"}')
    report = predict("verify", job.output("p"), "--sample", "1", code=1)
    assert "2 blocks: 2 complete." in report
    assert "precision.json is damaged (there is no precision 'octuple')" in report


def test_without_the_checkpoint_the_rest_of_the_report_is_shown(job: Job) -> None:
    predict(*job.arguments("c", *AUTO))
    (job.folder / "weights.pt").unlink()
    report = predict("verify", job.output("c"), "--sample", "1", code=1)
    assert "2 blocks: 2 complete." in report
    assert "No block could be computed again: checkpoint" in report
    # Without a sample, nothing is missed.
    assert "2 complete" in predict("verify", job.output("c"))


@pytest.mark.parametrize("fault", ["missing", "damaged"])
def test_input_that_cannot_be_read_any_more_leaves_the_report(fault: str, job: Job) -> None:
    predict(*job.arguments("i"))
    chunk = Path(job.input) / "2.2.2"
    content = chunk.read_bytes()
    chunk.write_bytes(content[: len(content) // 2])
    if fault == "missing":
        chunk.unlink()
    (Path(job.output("i")) / "c" / "0" / "0" / "0" / "0").unlink()
    report = predict("verify", job.output("i"), "--sample", "26", code=1)
    assert "27 blocks: 18 complete, 1 damaged, 8 unchecked." in report, report
    where = "unchecked [160:320,160:320,160:330] nm (2 blocks): could not be computed again: "
    assert where + job.input in report
    assert "18 blocks were computed again and compared." in report
    found = json.loads(predict("verify", job.output("i"), "--sample", "26", "--json", code=1))
    assert found["good"] is False
    assert found["counts"]["unchecked"] == 8


def test_verify_tells_apart_what_it_finds_and_repair_mends_it(job: Job) -> None:
    expected = stored_bytes(job.undisturbed())
    predict(*job.arguments("v"))
    output = Path(job.output("v"))
    chunk = output / "c" / "0"
    # A block of zeros is complete: nothing is missing in it.
    (chunk / "0/0/0").unlink()
    content = (chunk / "0/0/1").read_bytes()
    (chunk / "0/0/1").write_bytes(content[:-20])
    # Another block's values decode, and are wrong.
    shutil.copy(chunk / "1/1/1", chunk / "0/1/0")
    report = predict("verify", output, "--sample", "27", code=1)
    assert "27 blocks: 24 complete, 2 damaged, 1 different" in report
    assert "damaged [0:160,0:160,0:320] nm (2 blocks): a chunk is not stored" in report
    assert "different [0:160,160:320,0:160] nm (1 block): computed again, values differ" in report
    found = json.loads(predict("verify", output, "--sample", "27", "--json", "--repair", code=1))
    assert found["good"] is False
    assert found["repaired"] == 3
    assert blocks_done(job.run_dir("v")) == 24
    predict(*job.arguments("v"))
    assert stored_bytes(str(output)) == expected
    report = predict("verify", output, "--sample", "3")
    assert "27 blocks: 27 complete." in report
    assert "3 blocks were computed again and compared" in report


def test_zeros_are_not_missing(job: Job) -> None:
    predict(*job.arguments("0", *SMALL, "--output-dtype", "uint8", "--output-range", "900,901"))
    assert not read_output(job.output("0")).any()
    assert "2 blocks: 2 complete" in predict("verify", job.output("0"), "--sample", "2")


def test_mistakes_of_verify_are_short_messages(job: Job, tmp_path: Path) -> None:
    assert "nowhere.zarr/out" in predict("verify", tmp_path / "nowhere.zarr" / "out", code=2)
    assert "has no record of being made by predict run" in predict("verify", job.input, code=2)
    predict(*job.arguments("n", *SMALL))
    shutil.rmtree(job.run_dir("n"))
    assert "Say where it is with --run-dir" in predict("verify", job.output("n"), code=2)
