"""`predict run` as a user meets it: its result, its summary and its records."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from blockwise_predict.records import RunDir
from tests.support.jobs import Job
from tests.support.runs import blocks_done, events, predict, read_output


def test_a_run_ends_with_every_voxel_and_says_so(job: Job) -> None:
    output = predict(*job.arguments("a"))
    assert "Done" in output
    assert "27 blocks of [0:400,0:360,0:330] nm" in output
    assert re.search(r"Devices computed: worker 0 \d+% of the time", output)
    (job.folder / "link").symlink_to(job.folder)
    (listed,) = predict("logs", job.folder / "link" / "a.zarr" / "out").splitlines()
    assert listed.startswith("worker 0  ")
    values = read_output(job.output("a"))
    assert values.shape == (2, 40, 36, 33)
    # Otherwise no comparison of outputs, here and elsewhere, would mean anything.
    assert (values.reshape(2, -1).std(axis=1) > 0.05 * abs(values).max()).all()
    assert blocks_done(job.run_dir("a")) == 27


def test_workers_blocks_and_roi_do_not_change_the_result(job: Job) -> None:
    whole = read_output(job.undisturbed())
    predict(
        *job.arguments("b", "--workers", "2", "--roi", "[70:310,30:350,110:]"),
        *("--block-shape", "32,16,48", "--tile-shape", "28,24,32"),
    )
    part = whole[:, 7:31, 3:35, 11:]
    np.testing.assert_allclose(read_output(job.output("b")), part, atol=1e-5)


def test_running_again_does_nothing_and_says_so(job: Job) -> None:
    predict(*job.arguments("a"))
    chunks = [p for p in Path(job.output("a")).rglob("*") if p.is_file() and p.name.isdigit()]
    before = {p: p.stat().st_mtime_ns for p in chunks}
    assert len(before) == 27
    output = predict(*job.arguments("a"))
    assert "27 of 27 blocks are done" in output
    assert before == {p: p.stat().st_mtime_ns for p in before}


def test_clipping_is_counted_and_provenance_is_enough_to_run_again(job: Job) -> None:
    from blockwise_predict.io import read_attributes

    output = predict(
        *job.arguments("u", "--output-dtype", "uint8", "--output-range", "0,0.05"),
        *("--roi", "[:200,:160,:160]"),
    )
    assert "were clipped" in output
    record = read_attributes(job.output("u"))["blockwise_predict"]
    truth = predict_float(job)
    clipped = float(((truth < 0) | (truth > 0.05)).mean())
    assert record["clipped_fraction"] == pytest.approx(clipped, abs=1e-4)
    assert record["complete"] is True
    assert record["checkpoint"]["path"].endswith("weights.pt")
    assert len(record["checkpoint"]["sha256"]) == 64
    assert record["normalization"] == {"scale": 1 / 255, "shift": 0.0, "rule": "auto"}
    assert record["roi_nm"] == "[0:200,0:160,0:160]"
    assert record["output_range"] == [0, 0.05]
    assert record["precision"]["precision"] == "float32"
    assert record["command"].startswith("predict run --checkpoint")
    assert {"torch", "daisy", "blockwise-predict"} <= set(record["versions"])


def predict_float(job: Job) -> np.ndarray:
    predict(*job.arguments("float", "--roi", "[:200,:160,:160]"))
    return read_output(job.output("float"))


def test_a_yaml_file_is_the_same_as_options(job: Job) -> None:
    import yaml

    keys = [str(key).removeprefix("--").replace("-", "_") for key in job.options[::2]]
    content = dict(zip(keys, map(str, job.options[1::2]), strict=True))
    content |= {"output": job.output("y"), "roi": "[:160,:160,:160]", "workers": 2}
    (job.folder / "run.yaml").write_text(yaml.safe_dump(content))
    predict("run", job.folder / "run.yaml", "--workers", "1")
    assert {event["worker"] for event in events(job.run_dir("y"), "join")} == {0}


def test_events_do_not_grow_with_the_blocks(job: Job) -> None:
    predict(*job.arguments("e"))
    kinds = [event["event"] for event in RunDir(job.run_dir("e")).events.read()]
    assert kinds == ["begin", "join", "first", "leave", "end"]
