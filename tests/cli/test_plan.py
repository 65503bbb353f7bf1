"""`predict plan`: what it shows, and that it writes nothing."""

from __future__ import annotations

import json
import re

import pytest
from PIL import Image

from blockwise_predict.run.overview.document import Overview
from blockwise_predict.run.overview.page import as_text
from tests.support.jobs import Job
from tests.support.runs import predict


def test_plan_writes_nothing(job: Job) -> None:
    before = sorted(job.folder.rglob("*"))
    output = predict("plan", *job.options, "--output", job.output("n"))
    assert sorted(job.folder.rglob("*")) == before
    for label in ("blocks", "tile", "halo overhead", "memory", "bytes in", "read amplification"):
        assert label in output
    assert "27 of 16 x 16 x 16" in output


def test_a_probe_measures_a_part_of_a_run_and_writes_nothing(job: Job) -> None:
    before = sorted(job.folder.rglob("*"))
    output = predict("plan", *job.options, "--output", job.output("n"), "--probe")
    assert sorted(job.folder.rglob("*")) == before
    (rate,) = re.findall(r"measured rate +([\d.e+]+) GFLOP/s on cpu", output)
    (flops,) = re.findall(r"arithmetic +([\d.e-]+) TFLOP", output)
    (seconds,) = re.findall(r"whole job +(\d+) s of computing", output)
    assert float(rate) > 0
    assert float(flops) * 1000 / float(rate) == pytest.approx(int(seconds), abs=1)
    assert re.search(r"^ +64 +[\d.e-]+ (to [\d.e-]+ )?s ", output, re.MULTILINE)
    for label in ("measured precision", "measured reading", "measured memory"):
        assert label in output


def test_the_document_is_the_page_and_the_only_thing_printed(job: Job) -> None:
    given = ("plan", *job.options, "--output", job.output("n"))
    picture = job.folder / "plan.png"
    document = json.loads(predict(*given, "--json", "--picture", picture))
    overview = Overview.model_validate(document)
    assert overview.blocks.count == 27
    assert document["measured"] is None

    def page(text: str) -> list[str]:
        # What is free may change from one command to the next.
        return [line for line in text.splitlines() if " free at " not in line]

    assert page(predict(*given)) == page(as_text(overview))
    with Image.open(picture) as image:
        assert image.width > 1000
    picture.write_text("mine")
    assert "is no picture of a plan" in predict(*given, "--picture", picture, code=2)
    assert picture.read_text() == "mine"


def test_a_price_needs_hours(job: Job) -> None:
    given = ("plan", *job.options, "--output", job.output("n"), "--price", "2.50 USD")
    assert "--price needs the hours that --probe finds out" in predict(*given, code=2)
    measured = json.loads(predict(*given, "--probe", "--json"))["measured"]
    assert (measured["price_per_worker_hour"], measured["currency"]) == (2.5, "USD")
    assert [row["workers"] for row in measured["durations"]] == [1, 8, 64]
    for row in measured["durations"]:
        assert row["cost"] == pytest.approx(2.5 * row["worker_hours"])
        assert row["worker_hours"] == pytest.approx(row["workers"] * row["seconds"] / 3600)


def test_a_run_says_what_its_plan_warns_of(job: Job) -> None:
    sizes = ("--chunk-shape", "8,8,8", "--block-shape", "8,16,16", "--roi", "[:160,:160,:160]")
    said = predict(*job.arguments("w", *sizes))
    assert "blocks of 8 x 16 x 16 voxels are smaller than their context along z" in said
