"""`predict report` of a real run in which blocks failed and a worker was killed."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

from blockwise_predict.records import RunDir
from tests.support.jobs import Job
from tests.support.networks import save_network
from tests.support.pages import Page
from tests.support.runs import predict
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
        assert stages >= float(row["took"]) - 0.01 > 0
        assert float(row["ended"]) - float(row["begun"]) == pytest.approx(
            float(row["took"]), abs=0.01
        )
        assert row["host"] == os.uname().nodename
    assert rows[12]["roi"] == "[160:320,160:320,0:160]"
    assert rows[12]["took"] == ""


def test_only_reports_are_replaced(troubled: Job, tmp_path: Path) -> None:
    output = troubled.output("t")
    own = tmp_path / "own.html"
    predict("report", output, "--file", own)
    predict("report", output, "--file", own)
    assert (tmp_path / "own.trace.csv").exists()
    other = tmp_path / "other.html"
    other.write_text("<p>mine</p>")
    assert "is not replaced" in predict("report", output, "--file", other, code=2)
    assert other.read_text() == "<p>mine</p>"
    assert "NAME.html" in predict("report", output, "--file", tmp_path / "a.pdf", code=2)
    assert "no folder" in predict("report", output, "--file", tmp_path / "no/a.html", code=2)


@pytest.mark.usefixtures("page")
def test_reports_of_the_run_directory_are_records(troubled: Job) -> None:
    """So that a run directory with a report is still one, and overwriting a run removes them."""
    RunDir(troubled.run_dir("t")).check()
