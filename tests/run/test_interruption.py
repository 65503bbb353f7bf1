"""Runs that are interrupted or killed, and go on with the same result."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from blockwise_predict.records import RunDir
from tests.support.jobs import Job
from tests.support.runs import blocks_done, command, predict, stored_bytes
from tests.support.sabotage import PLANNING, SLOW, at_startup


@pytest.mark.slow
def test_scheduler_killed_and_run_again_gives_the_same_bytes(
    job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    expected = stored_bytes(job.undisturbed())
    with monkeypatch.context() as patch:
        at_startup(patch, tmp_path, SLOW)
        process = job.begin_as_users_do("k", "--workers", "2")
        job.await_blocks("k", process)
        workers = psutil.Process(process.pid).children(recursive=True)
        assert len(workers) >= 2
        process.kill()
        process.wait()
        _, alive = psutil.wait_procs(workers, timeout=30)
        assert not alive, "workers outlive their scheduler"
    done = blocks_done(job.run_dir("k"))
    assert 0 < done < 27
    told = predict("scale", job.output("k"), "3", code=2)
    assert "is no longer running. Start it again with predict run." in told
    output = predict(*job.arguments("k"))
    assert f"Resuming: {done} of 27 blocks are done" in output
    assert stored_bytes(job.output("k")) == expected


def test_ctrl_c_before_anything_was_begun_ends_at_once(
    job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    at_startup(monkeypatch, tmp_path, PLANNING.format(folder=str(tmp_path)))
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


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_drains_and_tells_how_to_resume(
    number: signal.Signals, job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patch:
        at_startup(patch, tmp_path, SLOW)
        process = job.start("d")
        workers = job.workers("d")
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
        at_startup(
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
