"""Metrics and notifications of a run that really goes on."""

from __future__ import annotations

import json
import re
import socket
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import URLError

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from blockwise_predict.config.resources import resource_folder
from blockwise_predict.config.values import metrics_address
from blockwise_predict.errors import ConfigError
from blockwise_predict.records.status import Counts
from blockwise_predict.run.observation.metrics import RunMetrics, served
from tests.support.jobs import Job
from tests.support.runs import events, predict, until
from tests.support.sabotage import POISON, SLOW, at_startup
from tests.support.shared import ROOT

PLAN: Any = SimpleNamespace(output=SimpleNamespace(roi=SimpleNamespace(size=800)), num_blocks=8)
Samples = dict[tuple[str, str], float]
FAILS = (
    POISON.replace("{action}", 'raise ValueError("a bad \\x1b block")')
    .replace("process = block", "before = block")
    .replace("return process", "return before")
)


@dataclass(frozen=True)
class Watched:
    """A run of which one block failed: its job, the samples of its metrics while it went on, what
    its command was told, and what it printed."""

    job: Job
    samples: list[Samples]
    told: dict[str, str]
    said: str


def free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


def scrape(port: int) -> Samples:
    """The samples by their name, and the worker or the one label that they have."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    return {
        (sample.name, sample.labels.get("worker") or "".join(sample.labels.values())): sample.value
        for family in families
        for sample in family.samples
    }


def variables(file: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in file.read_text().splitlines())


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    folder = tmp_path_factory.mktemp("watched")
    with pytest.MonkeyPatch.context() as monkeypatch:
        at_startup(monkeypatch, folder, f"{SLOW}\n{FAILS}")
        job, port = Job(folder), free_port()
        told = folder / "told"
        command = f"env | grep ^PREDICT_ > {told}"
        options = ("--metrics-port", port, "--retries", 0, "--notify", command)
        process = job.begin("a", *options)
        samples: list[Samples] = []
        while process.poll() is None:
            try:
                samples.append(scrape(port))
            except (URLError, ConnectionError):
                time.sleep(0.05)
        said = process.communicate(60)[0]
        assert process.returncode == 1, said
    return Watched(job, samples, variables(told), said)


def test_the_metrics_are_those_of_the_run(watched: Watched) -> None:
    def series(name: str, label: str) -> list[float]:
        key = (f"blockwise_predict_{name}", label)
        return [sample[key] for sample in watched.samples if key in sample]

    # Until a run has begun there are no counts.
    done = series("blocks", "done")
    assert sorted(done) == done
    assert len({*done}) > 3
    states = ("todo", "processing", "done", "failed", "skipped", "empty")
    some = [one for one in watched.samples if one.get(("blockwise_predict_blocks", "todo"), 0) > 0]
    assert {sum(one[("blockwise_predict_blocks", state)] for state in states) for one in some} == {
        27.0
    }
    assert max(series("blocks", "failed")) == 1
    assert max(series("block_errors_total", "")) == 1
    assert max(series("workers", "working")) == 1
    assert max(series("worker_joins_total", "")) == 1
    # The scheduler publishes its workers once a second.
    assert max(series("worker_blocks_total", "0")) > 1
    voxels = dict(zip(done, series("voxels_total", ""), strict=True))
    assert all(voxels[n] == pytest.approx(n * 40 * 36 * 33 / 27) for n in voxels)
    for step in ("read", "compute", "write"):
        assert series("step_seconds_total", step)
    assert abs(series("last_progress_timestamp_seconds", "")[-1] - time.time()) < 300
    assert any(key[0] == "blockwise_predict_run_info" for key in watched.samples[-1])
    assert re.search(r"^Metrics: http://127.0.0.1:\d+/metrics$", watched.said, re.MULTILINE)


def test_the_command_is_told_of_the_failure(watched: Watched) -> None:
    told = watched.told
    assert told["PREDICT_EVENT"] == "failed"
    assert told["PREDICT_OUTPUT"] == watched.job.output("a")
    assert told["PREDICT_RUN_DIR"] == str(watched.job.run_dir("a"))
    assert told["PREDICT_BLOCKS_DONE"] == "26"
    assert told["PREDICT_BLOCKS_FAILED"] == "1"
    assert (
        "26 of 27 blocks are predicted, 1 failed. The first: [160:320," in (told["PREDICT_MESSAGE"])
    )
    assert "a bad \\x1b block" in told["PREDICT_MESSAGE"]
    assert "Warning: --notify" not in watched.said


def test_neither_is_recorded(watched: Watched) -> None:
    records = watched.job.run_dir("a")
    config = yaml.safe_load((records / "config.yaml").read_text())
    plan = json.loads((records / "plan.json").read_text())
    assert not {"notify", "metrics_port"} & {*config, *plan["config"]}
    # Nor within the command, which is also an attribute of the output.
    written = [*records.glob("*.*"), *Path(watched.job.output("a")).glob("zarr.json")]
    assert len(written) > 5
    for file in written:
        assert b"PREDICT_" not in file.read_bytes(), file
    (begun, *_) = events(records, "begin")
    assert begun["command"].startswith("predict run --checkpoint")


def test_a_retry_is_watched_as_it_asks_for_and_a_command_that_fails_is_a_warning(
    watched: Watched, tmp_path: Path
) -> None:
    told = tmp_path / "told"
    command = f"env | grep ^PREDICT_ > {told}; echo no such channel >&2; exit 3"
    output = watched.job.output("a")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = predict("retry", output, "--metrics-port", port, "--notify", command, code=2)
        assert f"Error: --metrics-port {port}: cannot listen there" in said
        assert not told.exists()
    said = predict("retry", output, "--metrics-port", 0, "--notify", command)
    assert "Warning: --notify (finished): the command exited with code 3: no such channel" in said
    assert variables(told)["PREDICT_EVENT"] == "finished"
    assert len(events(watched.job.run_dir("a"), "begin")) == 2


IMPATIENT = """
from blockwise_predict.run.observation import notify
notify.ABSENT_S, notify.CHECK_S = 0.05, 0.0
"""


def test_an_interruption_and_a_stall_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_startup(monkeypatch, tmp_path, IMPATIENT)
    told = tmp_path / "told"
    command = f'echo "$PREDICT_EVENT: $PREDICT_MESSAGE" >> {told}'
    job = Job(tmp_path)
    process = job.begin("s", "--workers", 0, "--notify", command)
    until((job.run_dir("s") / "status.json").exists)
    process.terminate()
    assert process.wait(60) == 130
    done = f"{job.output('s')}: {{}} of 27 blocks are predicted."
    # Workers that are not wanted are not missed.
    interrupted = f"interrupted: {done.format(0)}"
    assert told.read_text().splitlines() == [interrupted]
    predict(*job.arguments("s", "--notify", command))
    # On a slow machine a block may take as long as a stall here.
    before, stalled, *more, finished = told.read_text().splitlines()
    assert all(line.startswith("stalled: ") for line in more)
    assert (before, finished) == (interrupted, f"finished: {done.format(27)}")
    assert re.fullmatch(r"stalled: No worker has joined for \d+ s: 1 is wanted\.", stalled)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("9100", ("127.0.0.1", 9100)),
        ("0", ("127.0.0.1", 0)),
        ("0.0.0.0:9100", ("0.0.0.0", 9100)),
        ("[::1]:9100", ("::1", 9100)),
    ],
)
def test_metrics_are_for_this_machine_unless_told(text: str, address: tuple[str, int]) -> None:
    assert metrics_address(text) == address


@pytest.mark.parametrize("text", ["", "host", ":9100", "9100:", "99999", "-1", "a b:1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write "):
        metrics_address(text)


@pytest.mark.parametrize("host", ["a..b", "a" * 64 + ".org"])
def test_what_is_no_host_is_refused(host: str) -> None:
    made = RunMetrics({}, dict)
    with (
        pytest.raises(ConfigError, match="not the name of a host"),
        served(made, f"{host}:9100"),
    ):
        pass


def test_a_path_that_is_not_utf8_can_be_scraped() -> None:
    metrics = RunMetrics({"output": "a\udcff"}, dict)
    with served(metrics, "0") as url:
        samples = scrape(int(url.split(":")[2].split("/")[0]))
    assert ("blockwise_predict_run_info", "a\\udcff") in samples


def exported() -> set[str]:
    """The names of all metrics, as Prometheus stores them."""
    metrics = RunMetrics({"output": "o"}, lambda: {"read": 1.0})
    metrics.begin(PLAN, Counts(8, 0, 0, 0))
    suffixes = {"counter": "_total", "info": "_info"}
    return {family.name + suffixes.get(family.type, "") for family in metrics.collect()}


def test_what_was_done_before_is_no_burst_when_a_run_is_resumed() -> None:
    metrics = RunMetrics({"output": "o"}, lambda: {"read": 1.0})
    assert {family.name.removeprefix("blockwise_predict_") for family in metrics.collect()} == {
        "run",
        "start_timestamp_seconds",
    }
    metrics.begin(PLAN, Counts(8, 5, 0, 0))
    metrics.progress(Counts(8, 6, 0, 1))
    voxels = [f for f in metrics.collect() if f.name == "blockwise_predict_voxels"]
    assert [sample.value for family in voxels for sample in family.samples] == [100]


def test_the_metrics_are_documented() -> None:
    text = (ROOT / "docs" / "monitoring.md").read_text()
    assert set(re.findall(r"^\| `(blockwise_predict_\w+)`", text, re.MULTILINE)) == exported()


def test_the_dashboard_asks_for_metrics_that_exist() -> None:
    dashboard = json.loads((resource_folder("configs") / "grafana.json").read_text())
    assert {"__inputs", "__requires", "schemaVersion", "title", "uid", "panels"} <= {*dashboard}
    (source,) = dashboard["__inputs"]
    assert (source["type"], source["pluginId"]) == ("datasource", "prometheus")
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) > 5
    asked = set()
    for panel in panels:
        assert {"title", "type", "gridPos"} <= {*panel}
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        for target in panel["targets"]:
            names = set(re.findall(r"blockwise_predict_\w+", target["expr"]))
            assert names, target
            asked |= names
            assert target["expr"].count("$run") == len(re.findall(r"\{", target["expr"]))
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    assert variables == {"datasource", "run"}
    assert asked <= exported()
    assert exported() - asked <= {"blockwise_predict_start_timestamp_seconds"}
