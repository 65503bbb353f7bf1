"""`predict run` as a user meets it: resume, kills, failures, interruption, refusals."""

from __future__ import annotations

import atexit
import hashlib
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from blockwise_predict.records import RunDir, default_run_dir
from tests.support.networks import save_network
from tests.support.runs import (
    blocks_done,
    command,
    events,
    predict,
    read_output,
    stored_bytes,
    write_volume,
)

PEACEFUL: dict[str, str] = {}
"""Outputs of undisturbed runs, by the content of what they were made from."""


class Job:
    """A tiny run over a 40 x 36 x 33 volume: 27 blocks of 16^3."""

    def __init__(self, folder: Path, **volume: Any) -> None:
        self.folder = folder
        weights, architecture = save_network(folder)
        data = np.random.default_rng(0).integers(0, 256, (40, 36, 33), np.uint8)
        self.input = write_volume(folder / "volume.zarr", data, **volume)
        self.options: list[object] = [
            *("--checkpoint", weights, "--architecture", architecture, "--input", self.input),
            *("--chunk-shape", "16,16,16", "--block-shape", "16,16,16", "--device", "cpu"),
            *("--precision", "float32"),
        ]

    def arguments(self, name: str, *more: object) -> list[object]:
        return ["run", *self.options, "--output", self.output(name), *more]

    def output(self, name: str) -> str:
        return str(self.folder / f"{name}.zarr" / "out")

    def run_dir(self, name: str) -> Path:
        return default_run_dir(self.output(name))

    def undisturbed(self) -> str:
        """The output of a run in peace; the same one for all tests with the same files."""
        files = sorted(p for p in self.folder.rglob("*") if p.is_file() and self._is_given(p))
        digest = hashlib.sha256(b"".join(p.read_bytes() for p in files)).hexdigest()
        if digest not in PEACEFUL:
            kept = Path(tempfile.mkdtemp(prefix="undisturbed-"))
            atexit.register(shutil.rmtree, kept, ignore_errors=True)
            output = str(kept / "out.zarr" / "out")
            predict("run", *self.options, "--output", output)
            PEACEFUL[digest] = output
        return PEACEFUL[digest]

    def _is_given(self, file: Path) -> bool:
        """Whether a file is the network or the input."""
        names = file.relative_to(self.folder).parts
        return names[0] in ("volume.zarr", "weights.pt", "architecture.yaml")

    def start(self, name: str, *more: object) -> subprocess.Popen[str]:
        """Start a run in the background, and wait until its first blocks are done."""
        process = subprocess.Popen(
            command(*self.arguments(name, *more)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        deadline = time.monotonic() + 100
        while self.blocks_done(name) < 2:
            assert time.monotonic() < deadline, process.communicate()[0]
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.02)
        return process

    def blocks_done(self, name: str) -> int:
        return blocks_done(self.run_dir(name))


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


def slow_blocks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, body: str) -> None:
    """Make real workers misbehave: code that their interpreter runs when it starts."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(body)
    monkeypatch.setenv("PYTHONPATH", str(site))


SLOW = """
import sys
if "worker" in sys.orig_argv:
    import time
    from blockwise_predict.worker import block
    process = block.BlockProcessor.process
    def slow(self, roi, turn):
        time.sleep(0.2)
        return process(self, roi, turn)
    block.BlockProcessor.process = slow
"""

POISON = """
import sys
if "worker" in sys.orig_argv:
    import os
    from blockwise_predict.worker import block
    process = block.BlockProcessor.process
    def poisoned(self, roi, turn):
        if tuple(roi.begin) == (16, 16, 0):
            {action}
        return process(self, roi, turn)
    block.BlockProcessor.process = poisoned
"""


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


@pytest.mark.slow
def test_scheduler_killed_and_run_again_gives_the_same_bytes(
    job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    expected = stored_bytes(job.undisturbed())
    with monkeypatch.context() as patch:
        slow_blocks(patch, tmp_path, SLOW)
        process = job.start("k", "--workers", "2")
        workers = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()
        _, alive = psutil.wait_procs(workers, timeout=30)
        assert not alive, "workers outlive their scheduler"
    done = blocks_done(job.run_dir("k"))
    assert 0 < done < 27
    told = predict("scale", job.output("k"), "3", code=2)
    assert "is not running any more. Start it again with predict run." in told
    output = predict(*job.arguments("k"))
    assert f"Resuming: {done} of 27 blocks are done" in output
    assert stored_bytes(job.output("k")) == expected


def test_ctrl_c_before_anything_was_begun_ends_at_once(
    job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    slow_blocks(monkeypatch, tmp_path, PLANNING.format(folder=str(tmp_path)))
    process = subprocess.Popen(
        command(*job.arguments("i")), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    while not (tmp_path / "planning").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 130
    assert output == "Interrupted before the first block was begun.\n"
    assert not job.run_dir("i").exists()


PLANNING = """
import pathlib, sys, time
if "run" in sys.orig_argv:
    from blockwise_predict.run import planned
    def plan(*_, **__):
        pathlib.Path({folder!r}, "planning").touch()
        time.sleep(60)
    planned.make_plan = plan
"""
"""Runs whose plan takes long."""


@pytest.mark.slow
def test_worker_killed_is_replaced_and_nothing_is_lost(
    job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    expected = stored_bytes(job.undisturbed())
    slow_blocks(monkeypatch, tmp_path, SLOW)
    process = job.start("w", "--workers", "2")
    for _ in range(2):
        workers = psutil.Process(process.pid).children()
        workers[0].kill()
        time.sleep(1)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert stored_bytes(job.output("w")) == expected


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_drains_and_tells_how_to_resume(
    number: signal.Signals, job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patch:
        slow_blocks(patch, tmp_path, SLOW)
        process = job.start("d")
        workers = psutil.Process(process.pid).children()
        process.send_signal(number)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "Resume with:\n  predict run --checkpoint" in output
    assert not any(worker.is_running() for worker in workers)
    # What was in work was finished: every block that a worker reports is recorded as done.
    log = RunDir(job.run_dir("d")).log_file(0).read_text()
    done = blocks_done(job.run_dir("d"))
    assert f"worker 0: {done} blocks done" in log
    assert f"{done} of 27 blocks are done" in output
    predict(*job.arguments("d"))
    assert blocks_done(job.run_dir("d")) == 27


@pytest.mark.slow
def test_a_second_signal_stops_at_once(
    job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patch:
        slow_blocks(
            patch,
            tmp_path,
            SLOW.replace("0.2", "60 if self.done > 2 else 0.1").replace(
                "def slow(self, roi, turn):",
                "block.BlockProcessor.done = 0\n    def slow(self, roi, turn):\n"
                "        self.done += 1",
            ),
        )
        process = job.start("s")
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        time.sleep(1)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=20)
    assert process.returncode == 130, output


@pytest.mark.slow
@pytest.mark.parametrize(
    ("action", "message"),
    [
        ('raise ValueError("a poisoned block")', "ValueError: a poisoned block"),
        ("os.kill(os.getpid(), 9)", "its worker was lost"),
    ],
)
def test_a_poison_block_fails_alone_and_is_named(
    action: str, message: str, job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    expected = read_output(job.undisturbed())
    with monkeypatch.context() as patch:
        slow_blocks(patch, tmp_path, POISON.format(action=action))
        output = predict(*job.arguments("p", "--retries", "0"), code=1)
    assert "1 of 27 blocks failed" in output
    assert f"[160:320,160:320,0:160]: {message}" in output
    if "raise" in action:
        assert "Traceback (most recent call last)" in output
        assert str(RunDir(job.run_dir("p")).log_file(0)) in output
    got = read_output(job.output("p"))
    healthy = np.ones(got.shape, bool)
    healthy[:, 16:32, 16:32, :16] = False
    np.testing.assert_array_equal(got[healthy], expected[healthy])
    # The next run takes the failed block up again, and only it.
    output = predict(*job.arguments("p"))
    assert "Resuming: 26 of 27" in output
    np.testing.assert_array_equal(read_output(job.output("p")), expected)


def test_a_worker_that_cannot_start_ends_the_run_with_its_error(
    job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    slow_blocks(
        monkeypatch,
        tmp_path,
        'import sys\nif "worker" in sys.orig_argv:\n'
        '    raise SystemExit("ImportError: libcudart.so.13: cannot open shared object file")',
    )
    output = predict(*job.arguments("x"), code=1)
    assert "3 workers in a row died before their first block" in output
    assert "libcudart.so.13" in output
    assert "worker-0000.log" in output


def test_bad_gpu_is_found_before_anything_is_written(job: Job) -> None:
    output = predict(*job.arguments("g"), "--device", "cuda:77", code=2)
    assert "--device cuda:77" in output
    assert not Path(job.output("g")).exists()


@pytest.mark.parametrize(
    ("options", "messages"),
    [
        (("--border", "edge"), ["border: was reflect, is now edge"]),
        (("--normalize", "none"), ["normalization: was raw * 0.003921", "is now raw * 1"]),
        (("--block-shape", "32,32,32"), ["block shape: was [16, 16, 16], is now [32, 32, 32]"]),
        (("--roi", "[0:160,:,:]"), ["ROI: was [0:400,0:360,0:330], is now [0:160,0:360,0:330]"]),
        (
            ("--output-dtype", "uint8", "--output-range", "0,1"),
            ["output dtype: was float32, is now uint8"],
        ),
    ],
)
def test_a_run_that_differs_is_refused_with_both_values(
    options: tuple[str, ...], messages: list[str], job: Job
) -> None:
    predict(
        *job.arguments("r", "--roi", "[:160,:160,:160]" if "--roi" not in options else "[:,:,:]")
    )
    output = predict(
        *job.arguments(
            "r", *([] if "--roi" in options else ["--roi", "[:160,:160,:160]"]), *options
        ),
        code=2,
    )
    for message in messages:
        assert message in output


def test_another_checkpoint_is_refused(job: Job) -> None:
    roi = ("--roi", "[:160,:160,:160]")
    predict(*job.arguments("c", *roi))
    save_network(job.folder, seed=1)
    output = predict(*job.arguments("c", *roi), code=2)
    assert "weights (sha256): was" in output


def test_overwrite_says_what_goes_and_starts_afresh(job: Job) -> None:
    roi = ("--roi", "[:160,:160,:160]")
    predict(*job.arguments("o", *roi))
    output = predict(*job.arguments("o", *roi, "--border", "edge", "--overwrite"))
    assert f"deleting the array {job.output('o')}" in output
    assert "forgetting 1 finished blocks" in output


def test_an_array_of_somebody_else_is_not_touched(job: Job) -> None:
    write_volume(Path(job.output("f")).parent, np.zeros((4, 4, 4), np.uint8))
    (Path(job.output("f")).parent / "raw").rename(job.output("f"))
    before = stored_bytes(job.output("f"))
    output = predict(*job.arguments("f"), code=2)
    assert "exists, and" in output
    assert "--overwrite" not in output
    output = predict(*job.arguments("f"), "--overwrite", code=2)
    assert "was not made by predict run" in output
    assert stored_bytes(job.output("f")) == before


@pytest.mark.slow
def test_a_second_run_on_the_same_output_is_told_who_holds_it(
    job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patch:
        slow_blocks(patch, tmp_path, SLOW.replace("0.2", "3"))
        process = job.start("l")
        output = predict(*job.arguments("l"), code=2)
        assert f"in use by process {process.pid}" in output
        assert process.poll() is None
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == 130


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
    assert record["normalization"] == {"scale": 1 / 255, "shift": 0.0}
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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--input", "nowhere.zarr/raw"), "nowhere.zarr/raw"),
        (("--roi", "[5000:6000,:,:]"), "misses the volume, which spans [0:400,0:360,0:330]"),
        (("--block-shape", "20,16,16"), "Nearest: 16,16,16"),
        (("--tile-shape", "21,21,21"), "Nearest that it can"),
        (("--output-dtype", "uint8"), "needs --output-range"),
        (("--checkpoint", "nowhere.pt"), "nowhere.pt"),
        (("--voxel-size", "4,4"), "--voxel-size"),
        (("--output", "no_container/out"), "lies in no container"),
        (("--format", "n5", "--output-dtype", "float16"), "n5 cannot hold float16"),
    ],
)
def test_mistakes_end_with_a_short_message_before_anything_is_written(
    options: tuple[str, ...], message: str, job: Job
) -> None:
    before = sorted(job.folder.rglob("*"))
    output = predict(*job.arguments("m"), *options, code=2)
    assert message in output
    assert len(output.splitlines()) <= 6, output
    assert sorted(job.folder.rglob("*")) == before


def test_events_do_not_grow_with_the_blocks(job: Job) -> None:
    predict(*job.arguments("e"))
    kinds = [event["event"] for event in RunDir(job.run_dir("e")).events.read()]
    assert kinds == ["begin", "join", "first", "leave", "end"]
