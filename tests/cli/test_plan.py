"""`predict plan`: what it shows, and that it writes nothing."""

from __future__ import annotations

import re

import pytest

from tests.support.jobs import Job
from tests.support.runs import (
    predict,
)


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
    for label in ("measured precision", "measured reading", "measured memory"):
        assert label in output
