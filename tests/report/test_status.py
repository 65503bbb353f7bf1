"""`predict status`: while a run is on, after it, and after it was killed."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blockwise_predict.config.price import Price
from blockwise_predict.errors import ConfigError
from blockwise_predict.records import RunDir
from blockwise_predict.records.ledger import State
from blockwise_predict.records.ledger_file import record_dtype
from blockwise_predict.records.status import Counts, Published, publish, published_status
from blockwise_predict.report.history import covered_seconds, history_of
from tests.support.jobs import Job
from tests.support.runs import predict
from tests.support.sabotage import POISON, SLOW, at_startup


def status_of(job: Job, name: str) -> dict[str, Any]:
    return json.loads(predict("status", job.output(name), "--json"))


def test_a_run_is_watched_while_it_is_on_and_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job(tmp_path)
    at_startup(monkeypatch, tmp_path, SLOW.replace("0.2", "1.0"))
    process = job.start("out", "--workers", 2)
    deadline = time.monotonic() + 60
    while (found := status_of(job, "out"))["in_progress"] == 0:
        assert time.monotonic() < deadline
    assert (found["condition"], found["blocks"], found["workers_wanted"]) == ("running", 27, 2)
    assert 0 < found["done"] < 27
    assert found["done"] + found["left"] == 27
    assert found["seconds_left"] > 0
    for worker in found["workers"]:
        assert worker["device"] == "cpu, 1 thread"
        assert worker["name"].startswith(worker["host"])
    # Until the end, and then not again.
    watched = predict("status", job.output("out"), "--watch", "--json").splitlines()
    assert process.wait() == 0
    assert [json.loads(line)["condition"] for line in watched][-1] == "complete"
    ended = status_of(job, "out")
    assert (ended["done"], ended["left"], ended["workers"]) == (27, 0, [])
    assert ended["voxels_done"] == ended["voxels"] == 40 * 36 * 33
    assert 0 < ended["node_hours"] <= ended["worker_hours"] <= 2 * ended["seconds"] / 3600
    assert status_of(job, "out")["worker_hours"] == ended["worker_hours"]
    text = predict("status", job.output("out"), "--price", "3600 EUR")
    assert "27 of 27 done" in text
    assert "EUR" in text


def test_failed_and_killed_runs_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job(tmp_path)
    at_startup(monkeypatch, tmp_path, POISON.format(action='raise ValueError("poison")'))
    predict(*job.arguments("out", "--retries", 1), code=1)
    found = status_of(job, "out")
    assert (found["condition"], found["failed"], found["done"]) == ("failed", 1, 26)
    assert "1 failed" in predict("status", job.output("out"))
    monkeypatch.delenv("PYTHONPATH")
    at_startup(monkeypatch, tmp_path / "volume.zarr", SLOW)
    process = job.start("killed", "--workers", 1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    found = status_of(job, "killed")
    assert found["condition"] == "stopped"
    assert 0 < found["left"] < 27
    assert found["began"] < found["ended"] <= time.time()


def test_history_of_sessions_that_were_killed(tmp_path: Path, monkeypatch: Any) -> None:
    """Of a session and a worker whose end nobody has recorded, the last block is."""
    clock = iter([100.0, 101.0, 200.0, 203.0, 204.0])
    monkeypatch.setattr(time, "time", lambda: next(clock))
    run_dir = RunDir(tmp_path)
    run_dir.events.write("begin")
    run_dir.events.write("join", worker=0, name="a, process 1", host="a", device="cpu", log="")
    run_dir.events.write("begin")
    run_dir.events.write("join", worker=0, name="a, process 2", host="a", device="cpu", log="")
    run_dir.events.write("join", worker=1, name="a, process 3", host="a", device="cpu", log="")
    records = np.zeros((2, 2), record_dtype())
    records["state"] = State.DONE
    records["ended"] = [[110, 120], [210, 215]]
    records["worker"] = [[0, 0], [0, 1]]
    happened = list(run_dir.events.read())
    killed = history_of(run_dir, happened, records, None, running=False)
    assert killed.sessions == ((100, 120), (200, 215))
    assert [one.interval for one in killed.presences] == [(101, 120), (203, 210), (204, 215)]
    assert killed.worker_hours == pytest.approx((19 + 7 + 11) / 3600)
    assert killed.node_hours == pytest.approx((19 + 12) / 3600)
    monkeypatch.setattr(time, "time", lambda: 300.0)
    running = history_of(run_dir, happened, records, None, running=True)
    assert running.sessions == ((100, 120), (200, 300))
    assert [one.interval[1] for one in running.presences] == [120, 300, 300]


def test_a_run_whose_first_events_have_made_way_for_errors(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    joined = {"worker": 0, "name": "a, process 1", "log": ""}
    happened = [{"event": "join", "time": 110.0, **joined}]
    records = np.zeros((1, 2), record_dtype())
    published = Published(250.0, 100.0, Counts(2, 0, 0, 2), 1, ())
    ended = history_of(run_dir, happened, records, published, running=False)
    assert ended.sessions == ((100, 250),)
    (session,) = history_of(run_dir, happened, records, published, running=True).sessions
    assert session[0] == 100
    # Not even that is known of runs of earlier versions.
    assert history_of(run_dir, happened, records, None, running=True).sessions == ()


def test_what_another_version_has_published_is_not_read(tmp_path: Path) -> None:
    publish(tmp_path, Published(2.0, 1.0, Counts(2, 0, 0, 2), 1, ()))
    assert published_status(tmp_path) is not None
    (tmp_path / "status.json").write_text('{"time": 2.0, "moods": ["good"]}')
    assert published_status(tmp_path) is None


def test_hosts_of_earlier_versions_are_told_apart(tmp_path: Path) -> None:
    """Their joins have the host in the worker's name alone."""
    run_dir = RunDir(tmp_path)
    for number, host in enumerate("ab"):
        run_dir.events.write("join", worker=number, name=f"{host}, process 1", log="")
    happened = list(run_dir.events.read())
    records = np.zeros((1,), record_dtype())
    history = history_of(run_dir, happened, records, None, running=False)
    assert [one.worker.host for one in history.presences] == ["a", "b"]


def test_overlapping_intervals_count_once() -> None:
    assert covered_seconds([(0, 2), (1, 3), (5, 6), (5.5, 5.6)]) == 4


@pytest.mark.parametrize("text", ["", "cheap", "2,50", "-1", "1e3", "2.5 USD/h"])
def test_a_price_is_an_amount_with_a_currency(text: str) -> None:
    with pytest.raises(ConfigError, match="is no price of a worker for an hour"):
        Price.parse(text)


def test_what_hours_cost() -> None:
    assert Price.parse("2.50 USD").text(1000) == "2,500.00 USD"
    assert Price.parse(" .5€").text(3) == "1.50 €"
    assert Price.parse("2").text(0.25) == "0.50"
