"""What a fleet does when a queue answers late or not at all, and which jobs it gives up."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from blockwise_predict.errors import ConfigError, RunFailedError
from blockwise_predict.fleet import cluster as cluster_module
from blockwise_predict.fleet import job_table as job_table_module
from blockwise_predict.fleet.queue import Job, Request, State
from blockwise_predict.fleet.runner import QueueError
from blockwise_predict.scheduling.members import Changes, Membership, Registration
from tests.support.books import Book, Stage, patient
from tests.support.runs import until

pytestmark = pytest.mark.usefixtures("impatient")


def test_jobs_that_wait_are_left_alone_and_ended_ones_replaced(tmp_path: Path) -> None:
    stage = Stage(tmp_path, 3)
    stage.look()
    assert stage.book.submitted == 1
    for index in range(3):
        stage.join(index, f"book-1_{index}")
    stage.book.set("book-1_1", State.ENDED, "NODE_FAIL", blameless=True)
    stage.look()
    assert stage.alive() == ["book-1_0", "book-1_2", "book-2_0"]
    assert stage.told == ["job book-1_1 on n1 ended (NODE_FAIL); another one is submitted."]
    # One that is put into the queue again counts again, and what is too much is cancelled.
    stage.book.set("book-1_1", State.WAITING)
    stage.look()
    assert stage.fleet.alive == 3
    assert stage.book.submitted == 2
    assert stage.record.read()["ids"] == ["1", "2"]
    stage.fleet.kill(patient)
    assert stage.alive() == []
    assert stage.record.read() is None


def test_a_job_that_vanishes_from_the_queue_is_replaced(tmp_path: Path) -> None:
    stage = Stage(tmp_path, 1)
    stage.look()
    del stage.book.states["book-1_0"]
    stage.look()
    assert stage.alive() == ["book-2_0"]


def test_a_job_that_was_never_seen_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A queue may need a moment until it lists what was submitted."""
    with monkeypatch.context() as patch:
        patch.setattr(Book, "jobs", lambda *_: [])
        stage = Stage(tmp_path, 1)
        stage.look()
    stage.book.states.clear()
    stage.look()
    assert stage.book.submitted == 1
    monkeypatch.setattr(job_table_module, "APPEARANCE_S", 0.0)
    stage.look()
    assert stage.book.submitted > 1


def test_a_job_that_runs_and_does_not_join_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(tmp_path, 2)
    stage.book.set("book-1_0", State.RUNNING)
    monkeypatch.setattr(cluster_module, "JOIN_TIMEOUT_S", 0.05)
    stage.look(5)
    assert stage.book.states["book-1_0"].what == "CANCELLED"
    assert stage.book.states["book-1_1"].state is State.WAITING
    assert "job book-1_0 on n1 did not join within" in stage.told[0]


def test_a_queue_that_does_not_answer_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(tmp_path, 2)
    stage.look()
    stage.book.set("book-1_0", State.ENDED, "NODE_FAIL", blameless=True)
    stage.look()
    stage.book.refuses = "slurm_load_jobs error: Unable to contact slurm controller"
    monkeypatch.setattr(cluster_module, "SILENCE_WARNING_S", 0.05)
    stage.look(5)
    stage.book.set("book-1_1", State.ENDED, "FAILED")
    stage.book.refuses = None
    stage.look(5)
    assert len(stage.alive()) == 2
    silences = [text for text in stage.told if "does not answer" in text]
    assert len(silences) == 1
    assert "Unable to contact slurm controller. Workers go on." in silences[0]


def test_a_queue_that_takes_no_jobs_is_asked_again_and_stops_a_run_without_workers_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(tmp_path, 1)
    stage.look()
    submit = stage.book.submit

    def refuse(_: Request) -> str:
        raise QueueError("QOSMaxSubmitJobPerUserLimit")

    monkeypatch.setattr(stage.book, "submit", refuse)
    stage.book.set("book-1_0", State.ENDED, "PREEMPTED", blameless=True)
    stage.look()
    assert "Book takes no jobs now: QOSMaxSubmitJobPerUserLimit" in stage.told
    monkeypatch.setattr(stage.book, "submit", submit)
    stage.look()
    assert len(stage.alive()) == 1
    monkeypatch.setattr(stage.book, "submit", refuse)
    monkeypatch.setattr(cluster_module, "REFUSAL_LIMIT_S", 0.0)
    stage.book.cancel_all("")
    with pytest.raises(RunFailedError, match="takes no jobs, and none is left"):
        stage.look(10)


def test_a_first_submission_that_is_refused_is_the_users_mistake(tmp_path: Path) -> None:
    stage = Stage(tmp_path, 1)
    stage.book.cancel_all("")
    stage.book.refuses = "invalid account"
    with pytest.raises(ConfigError, match="invalid account"):
        stage.fleet.start(patient)


def test_a_submission_that_was_not_answered_may_have_been_taken(tmp_path: Path) -> None:
    stage = Stage(tmp_path, 2)
    stage.look()
    stage.book.set("book-1_0", State.ENDED, "NODE_FAIL", blameless=True)
    stage.book.loses = True
    stage.look(5)
    assert stage.alive() == ["book-1_1", "book-2_0"]
    assert "Book takes no jobs now: Socket timed out on send/recv operation" in stage.told


def test_a_job_that_is_ending_for_long_and_comes_back_is_not_counted_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(tmp_path, 2)
    stage.look()
    for index in range(2):
        stage.book.set(f"book-1_{index}", State.ENDING, "COMPLETING")
    stage.look()
    assert stage.book.submitted == 1
    stage.book.set("book-1_0", State.WAITING)
    stage.look()
    monkeypatch.setattr(job_table_module, "END_TIMEOUT_S", 0.0)
    stage.look()
    # Only what still hangs is replaced, and it is nobody's fault.
    assert stage.alive() == ["book-1_0", "book-1_1", "book-2_0"]
    stage.book.set("book-1_1", State.WAITING)
    stage.look()
    assert len(stage.alive()) == 2
    assert len(stage.told) == 1
    assert "(COMPLETING); another one is submitted" in stage.told[0]


def test_jobs_that_are_held_are_told_of(tmp_path: Path) -> None:
    stage = Stage(tmp_path, 2)
    key = "book-1_0"
    reason = "launch failed requeued held"
    stage.book.states[key] = Job(key, State.WAITING, "PENDING", held=reason)
    stage.look()
    assert stage.told == [
        "1 jobs are held, and wait until somebody releases them: book-1_0 "
        "(launch failed requeued held)"
    ]


def test_workers_that_cannot_know_their_job_are_not_taken_for_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a container without the job's environment, say."""
    stage = Stage(tmp_path, 1)
    stage.book.set("book-1_0", State.RUNNING)
    monkeypatch.setattr(cluster_module, "JOIN_TIMEOUT_S", 0.05)
    stage.membership = Membership({0: Registration("", time.monotonic(), False)})
    stage.look(5)
    assert stage.alive() == ["book-1_0"]


def test_a_queue_that_hangs_holds_nothing_up(tmp_path: Path) -> None:
    stage = Stage(tmp_path, 2)
    stage.join(0, "book-1_0")
    stage.look()
    stage.book.hanging.set()
    until(lambda: stage.look(1) is None and stage.book.waiting.is_set())
    before = time.monotonic()
    stage.fleet.scale(1, stage.membership)
    stage.fleet.end_workers([0], stage.membership)
    stage.fleet.drain(stage.membership)
    assert stage.fleet.check(stage.membership) == Changes()
    assert time.monotonic() - before < 0.1
    stage.book.hanging.clear()
    until(lambda: stage.look(1) is None and not stage.alive())
