"""What `predict logs` tells of workers, by a run's events."""

from __future__ import annotations

import re
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from blockwise_predict.records import RunDir
from blockwise_predict.records.departures import Departure
from blockwise_predict.records.workerlogs import WorkerLogs, worker_logs
from tests.support.jobs import Job
from tests.support.runs import predict
from tests.support.sabotage import SLOW, at_startup


def told(folder: Path, *events: dict[str, Any]) -> WorkerLogs:
    """What is told of worker 0, which joins before these events."""
    run_dir = RunDir(folder)
    run_dir.events.write("join", worker=0, name="host, process 1", log="")
    for event in events:
        run_dir.events.write(**event)
    return worker_logs(run_dir)


@pytest.mark.parametrize("cause", Departure)
def test_a_worker_has_failed_if_the_cause_of_its_leave_says_so(
    cause: Departure, tmp_path: Path
) -> None:
    logs = told(tmp_path, {"kind": "leave", "worker": 0, "cause": cause, "why": "", "held": [1]})
    failed = cause in (Departure.LOST, Departure.SILENT, Departure.OVERDUE)
    assert bool(logs.failed) == failed
    assert ("its connection was lost" in logs.all[0].title) == failed


def test_why_and_how_its_process_ended_are_told_in_any_order(tmp_path: Path) -> None:
    leave = {"kind": "leave", "worker": 0, "cause": "lost", "why": "", "held": []}
    end = {"kind": "exit", "worker": 0, "how": "was killed by SIGKILL"}
    for number, events in enumerate(([leave, end], [end, leave])):
        folder = tmp_path / str(number)
        folder.mkdir()
        (one,) = told(folder, *events).failed
        assert "host, process 1, was killed by SIGKILL  " in one.title


@pytest.mark.parametrize(
    ("why", "held", "failed"),
    [
        ("its connection ended", [], False),
        ("its connection ended", [3], True),
        ("the scheduler ends", [3], False),
        ("has not been heard of for 30 s", [], True),
    ],
)
def test_earlier_events_have_no_cause(
    why: str, held: list[int], failed: bool, tmp_path: Path
) -> None:
    logs = told(tmp_path, {"kind": "leave", "worker": 0, "why": why, "held": held})
    assert bool(logs.failed) == failed


def test_a_cause_that_is_unknown_counts_as_a_failure(tmp_path: Path) -> None:
    leave = {"kind": "leave", "worker": 0, "cause": "eaten", "why": "was eaten", "held": []}
    (one,) = told(tmp_path, leave).failed
    assert "was eaten" in one.title


def test_logs_of_workers_that_never_joined_are_not_read_whole(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    run_dir.logs.mkdir()
    (run_dir.logs / "blank.log").write_text(" \n\n")
    large = run_dir.logs / "large.log"
    with large.open("wb") as file:
        file.truncate(64 << 20)
    tracemalloc.start()
    try:
        (one,) = worker_logs(run_dir).failed
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert one.log == large
    assert peak < 4 << 20


@pytest.mark.slow
def test_a_killed_worker_is_listed_as_failed_and_one_that_was_told_to_end_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job(tmp_path)
    at_startup(monkeypatch, tmp_path, SLOW)
    process = job.start("k")
    job.workers("k")[0].kill()
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output
    listed = predict("logs", job.output("k"), "--failed")
    (title,) = re.findall(r"^worker .*", listed, re.MULTILINE)
    assert "was killed by SIGKILL" in title
    # The one that replaced it has ended in good order.
    assert len(re.findall(r"^worker 0 ", predict("logs", job.output("k")), re.MULTILINE)) == 2
