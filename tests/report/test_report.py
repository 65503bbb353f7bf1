"""`predict report` of a real run in which blocks failed and a worker was killed."""

from __future__ import annotations

import csv
import os
import re
from pathlib import Path

import pytest

from blockwise_predict.errors import InputError
from blockwise_predict.records import RunDir
from blockwise_predict.records.lock import RunLock, read_holder
from blockwise_predict.report import make, record
from blockwise_predict.report.make import WATCH_S, ReportMaker
from tests.support.devtools import browser_tab
from tests.support.invented import invented_run
from tests.support.jobs import Job
from tests.support.networks import save_network
from tests.support.pages import Page
from tests.support.runs import predict, tiny_config
from tests.support.sabotage import write_startup

SCRIPT = "<script>alert(1)</script>"
CLASSES = [f"cell {SCRIPT}", "\"'><img src=x onerror=alert(2)>"]
TROUBLE = """
import sys
if "worker" in sys.orig_argv:
    import os, pathlib
    from blockwise_predict.worker import block
    process = block.BlockProcessor.process
    killed = pathlib.Path({folder!r}, "killed")
    def troubled(self, roi, turn):
        if tuple(roi.begin) in ((16, 16, 0), (16, 16, 16)):
            raise ValueError(f"chunk {{roi.begin[2]}} is bad {script}")
        if tuple(roi.begin) == (0, 16, 16) and not killed.exists():
            killed.touch()
            os._exit(77)
        return process(self, roi, turn)
    block.BlockProcessor.process = troubled
"""


@pytest.fixture(scope="module")
def troubled(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A run of 27 blocks, of which two fail and one kills its worker."""
    folder = tmp_path_factory.mktemp("troubled")
    job = Job(folder)
    save_network(folder, task={"__type__": "OneHotTaskConfig", "classes": CLASSES})
    with pytest.MonkeyPatch.context() as patch:
        (folder / "site").mkdir()
        write_startup(folder / "site", TROUBLE.format(folder=str(folder), script=SCRIPT))
        patch.setenv("PYTHONPATH", str(folder / "site"))
        predict(*job.arguments("t", "--retries", 1), code=1)
    return job


@pytest.fixture(scope="module")
def page(troubled: Job) -> Page:
    predict("report", troubled.output("t"))
    return Page((troubled.run_dir("t") / "report.html").read_text())


def test_it_says_how_the_run_stands(page: Page) -> None:
    assert "incomplete: blocks failed" in page.text
    assert "2 blocks failed." in page.text
    assert "25 of 27" in page.text
    assert "lost: exited with code 77" in page.text


def test_errors_that_are_alike_are_one_with_the_first_block(page: Page) -> None:
    failures = page.text.split("Blocks that were given up")[1].split("Provenance")[0]
    row = f"2 ValueError: chunk 0 is bad {SCRIPT}"
    assert row in failures
    assert "block 12: [160:320,160:320,0:160] nm" in failures
    assert "raise ValueError" in failures


def test_names_of_strangers_are_text(page: Page) -> None:
    assert f"cell {SCRIPT}" in page.text
    assert CLASSES[1] in page.text


def test_it_needs_nothing_else(page: Page) -> None:
    page.check_self_contained()
    (policy,) = (value for _, _, value in page.attributes if "default-src" in value)
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")


@pytest.mark.usefixtures("page")
def test_the_trace_has_a_row_for_each_block(troubled: Job) -> None:
    with (troubled.run_dir("t") / "trace.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["block"]) for row in rows] == list(range(27))
    assert [row["block"] for row in rows if row["state"] == "failed"] == ["12", "13"]
    done = [row for row in rows if row["state"] == "done"]
    for row in done:
        stages = sum(float(row[name]) for name in ("read", "compute", "write", "wait"))
        assert float(row["took"]) > 0
        assert stages >= float(row["took"]) - 0.01
        assert float(row["ended"]) - float(row["begun"]) == pytest.approx(
            float(row["took"]), abs=0.01
        )
        assert row["host"] == os.uname().nodename
    assert rows[12]["roi"] == "[160:320,160:320,0:160]"
    assert rows[12]["took"] == ""


def test_only_reports_are_replaced(troubled: Job, tmp_path: Path) -> None:
    run_dir = RunDir(troubled.run_dir("t"))
    plan = run_dir.plan()
    own = tmp_path / "own.html"
    for _ in range(2):
        ReportMaker(run_dir, plan, own).make()
    assert (tmp_path / "own.trace.csv").exists()
    for name, text, problem in (
        ("other.html", "<p>mine</p>", "other.html exists, and predict report has not made it"),
        ("new.trace.csv", "a,b", "new.trace.csv exists, and predict report has not made it"),
        ("a.pdf", "", "a report is a file named NAME.html"),
        ("no/a.html", None, "there is no folder"),
    ):
        file = tmp_path / name
        if text is not None:
            file.write_text(text)
        report = file.with_name("new.html") if file.suffix == ".csv" else file
        with pytest.raises(InputError, match=problem):
            ReportMaker(run_dir, plan, report)
        assert text is None or file.read_text() == text


@pytest.mark.usefixtures("page")
def test_reports_of_the_run_directory_are_records(troubled: Job) -> None:
    """So that a run directory with a report is still one, and overwriting a run removes them."""
    RunDir(troubled.run_dir("t")).check()


@pytest.mark.usefixtures("page")
def test_a_browser_shows_it_on_a_phone_in_both_themes_and_prints_it(
    troubled: Job, tmp_path: Path
) -> None:
    with browser_tab(tmp_path) as tab:
        tab.resize(390, 800)
        tab.open(troubled.run_dir("t") / "report.html")
        assert tab.value("document.querySelectorAll('img').length") == 18
        assert tab.value("[...document.images].every(image => image.naturalWidth > 0)")
        assert tab.value("document.documentElement.scrollWidth") == 390
        papers = []
        for scheme in ("light", "dark"):
            tab.prefer(scheme)
            papers.append(tab.value("getComputedStyle(document.body).backgroundColor"))
        assert papers == ["rgb(255, 255, 255)", "rgb(20, 24, 29)"]
        assert len(re.findall(rb"/Type /Page\b", tab.pdf())) > 1
        assert tab.complaints == []
        # That complaints would be heard: the page's policy lets nothing be added.
        tab.value("document.body.append(Object.assign(new Image(), {src: 'http://127.0.0.1:9/'}))")
        assert "Content Security Policy" in "".join(tab.complaints)


def test_a_run_that_goes_on_is_reported_until_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page reloads itself as long as it is written again."""
    run = invented_run(tiny_config(tmp_path, (20, 20, 20)))
    maker = ReportMaker(run.run_dir, run.plan, None)
    pages = []

    def wait(seconds: float) -> None:
        assert seconds == WATCH_S
        pages.append(maker.file.read_text())
        lock.release()

    monkeypatch.setattr(make.time, "sleep", wait)
    monkeypatch.setattr(record, "is_held", lambda file: read_holder(file) is not None)
    lock = RunLock(run.run_dir.path / "lock")
    lock.acquire(print)
    maker.watch()
    assert ['content="30"' in page and "running" in page for page in pages] == [True]
    last = maker.file.read_text()
    assert 'http-equiv="refresh"' not in last
    assert "complete" in last
