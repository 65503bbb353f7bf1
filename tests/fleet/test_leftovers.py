"""Jobs at the end of a run, and those of an earlier one: cancelled, taken over, or named."""

from __future__ import annotations

import errno
import threading
from pathlib import Path

import pytest

from blockwise_predict.config.model import load_config
from blockwise_predict.errors import RunFailedError, RunStateError
from blockwise_predict.fleet import job_settings
from blockwise_predict.fleet import jobs as jobs_module
from blockwise_predict.fleet import queue as queue_module
from blockwise_predict.fleet.jobs import QUEUES, cancel_leftovers
from blockwise_predict.fleet.queue import Job, State
from blockwise_predict.fleet.runner import QueueError
from blockwise_predict.records import RunDir
from blockwise_predict.scheduling.members import Membership
from tests.support.books import CONFIG, Stage, patient
from tests.support.runs import until

pytestmark = pytest.mark.usefixtures("impatient")


@pytest.mark.parametrize("failing", ["jobs", "cancel_all"])
def test_cancelling_does_not_give_up_at_the_first_error(
    failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_module, "CANCEL_POLL_S", 0.0)
    stage = Stage(tmp_path, 2)
    stage.look()
    answers = iter([True, True, False])
    working = getattr(stage.book, failing)

    def sometimes(name: str) -> list[Job] | None:
        if next(answers, False):
            raise QueueError("Socket timed out on send/recv operation")
        return working(name)

    monkeypatch.setattr(stage.book, failing, sometimes)
    stage.fleet.kill(patient)
    assert stage.alive() == []
    assert stage.record.read() is None
    assert stage.told == []


def test_jobs_are_left_to_a_run_that_has_taken_over(tmp_path: Path) -> None:
    stage = Stage(tmp_path, 2)
    stage.look()
    stage.fleet.abandon()
    assert len(stage.alive()) == 2
    assert stage.record.read() is not None


def test_leftovers_that_cannot_be_cancelled_are_not_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_module, "CANCEL_TIMEOUT_S", 0.0)
    stage = Stage(tmp_path, 2)
    monkeypatch.setitem(QUEUES, "book", lambda _: stage.book)
    stage.record.begin("book", "predict-old", {"fleet": "slurm"})
    stage.book.refuses = "no contact"
    told: list[str] = []
    run_dir = RunDir(tmp_path)
    cancel_leftovers(run_dir, None, told.append, patient, keep=True)
    assert "may still be in Book's queue, under the name predict-old, and cannot be" in told[0]
    with pytest.raises(RunStateError, match=r"(?s)predict-old.*remove .*jobs\.json, and run this"):
        cancel_leftovers(run_dir, {"fleet": "slurm"}, told.append, patient, keep=False)
    cancel_leftovers(run_dir, {"fleet": "slurm"}, told.append, patient, keep=True)
    assert len(stage.alive()) == 2
    stage.book.refuses = None
    cancel_leftovers(run_dir, None, told.append, patient, keep=True)
    assert told[1:] == ["jobs of the last run, named predict-old, are cancelled."]
    assert stage.alive() == []
    assert stage.record.read() is None


def test_what_is_taken_over_was_submitted_with_the_same_script(tmp_path: Path) -> None:
    script = tmp_path / "site.sbatch"
    script.write_text("#!/bin/sh\nexit 1\n")
    config = load_config({**CONFIG, "fleet": str(script)})
    before = job_settings(config)
    assert before == job_settings(config)
    script.write_text("#!/bin/sh\nexec predict worker\n")
    assert job_settings(config) != before


def test_jobs_that_end_with_their_workers_are_not_cancelled(tmp_path: Path) -> None:
    stage = Stage(tmp_path, 2)
    stage.join(0, "book-1_0")
    stage.join(1, "book-1_1")
    stage.look()
    ended = iter([0, 1])

    def membership() -> Membership:
        """One worker after the other leaves, and its job ends a moment later."""
        if (number := next(ended, None)) is not None:
            stage.leave(number)
            key = f"book-1_{number}"
            threading.Timer(0.5, stage.book.set, (key, State.ENDED, "COMPLETED")).start()
        return stage.membership

    stage.fleet.finish(membership, patient)
    stage.fleet.kill(patient)
    assert {job.what for job in stage.book.states.values()} == {"COMPLETED"}


def test_a_full_disk_when_a_job_is_replaced_ends_the_run_with_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(tmp_path, 1)
    stage.join(0, "book-1_0")
    stage.look()

    def full(file: Path, *_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(file))

    monkeypatch.setattr(jobs_module, "write_atomically", full)
    stage.book.set("book-1_0", State.ENDED, "TIMEOUT")
    with pytest.raises(RunFailedError, match=r"be written: .*No space left.*jobs\.json"):
        until(lambda: stage.look(1) is not None)
    # It cannot be written, but read and removed: nothing is left behind.
    stage.fleet.kill(patient)
    assert stage.alive() == []
    assert stage.record.read() is None


@pytest.mark.parametrize(
    "text",
    ["{}", "[]", "{", '{"queue": "nowhere", "name": "x", "terms": {}}', '{"queue": "slurm"}'],
)
def test_a_damaged_record_of_jobs_is_told_as_such(text: str, tmp_path: Path) -> None:
    (tmp_path / "jobs.json").write_text(text)
    with pytest.raises(RunStateError, match=r"jobs\.json is damaged \(.*\): jobs of the"):
        cancel_leftovers(RunDir(tmp_path), None, print, patient, keep=False)
