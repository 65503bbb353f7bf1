"""A second Ctrl-C ends `predict run` at once, whatever queues and processes do."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from blockwise_predict.records import RunDir
from tests.support.disks import fill, small_disk
from tests.support.forked import Forked
from tests.support.jobs import Job
from tests.support.runs import events, until
from tests.support.sabotage import SLOW, at_startup

pytestmark = pytest.mark.slow

# A run ends within 2 s from the second Ctrl-C; machines of tests are slow, and busy.
AT_ONCE_S = 3.5
# A command that says that it was called, hangs if it should, and hears no signal then.
COMMAND = """#!/bin/bash
echo "{name} $*" >>{folder}/calls
if [ -e {folder}/hang-{name} ]; then
    trap '' TERM INT HUP
    echo $$ >>{folder}/hanging
    while :; do sleep 1000; done
fi
"""
# Jobs that are submitted run at once, as processes of this machine.
SBATCH = """
case "$*" in *--test-only*) exit 0;; esac
export SLURM_ARRAY_JOB_ID=1
count=$(sed 's/.*--array=0-\\([0-9]*\\).*/\\1/' <<<"$*")
for SLURM_ARRAY_TASK_ID in $(seq 0 $count); do
    export SLURM_ARRAY_TASK_ID
    echo "1_$SLURM_ARRAY_TASK_ID|RUNNING|n1|None|0|" >>{folder}/jobs
    setsid "$PREDICT_PYTHON" -m blockwise_predict worker "$PREDICT_RUN_DIR" >/dev/null 2>&1 &
done
echo 1
"""


class StandIn:
    """Commands of Slurm that hang when they should."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "jobs").touch()
        (folder / "calls").touch()
        for name, body in (
            ("sbatch", SBATCH),
            ("squeue", "cat {folder}/jobs\n"),
            ("scancel", ": >{folder}/jobs\n"),
        ):
            script = folder / name
            script.write_text((COMMAND + body).format(name=name, folder=folder))
            script.chmod(0o755)

    def hang(self, *names: str) -> None:
        for name in names:
            (self.folder / f"hang-{name}").touch()

    def calls(self, name: str) -> list[str]:
        return [c for c in (self.folder / "calls").read_text().splitlines() if c.startswith(name)]

    def hanging(self) -> list[int]:
        """The commands that have hung."""
        file = self.folder / "hanging"
        return [int(line) for line in file.read_text().split()] if file.exists() else []


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    standing = StandIn(tmp_path / "slurm")
    monkeypatch.setenv("PATH", str(standing.folder), prepend=":")
    yield standing
    # Commands that were killed.
    until(lambda: not any(runs(pid) for pid in standing.hanging()))


def runs(pid: int) -> bool:
    """Whether a process runs: what has ended may stay in the table for a while."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class HurriedJob(Job):
    """A tiny run, which is interrupted."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.processes: list[Forked] = []

    def begin(self, *more: object) -> Forked:
        """Start the run, without waiting for its first blocks."""
        process = super().begin("h", *more)
        self.processes.append(process)
        return process


@pytest.fixture
def job(tmp_path: Path) -> Iterator[HurriedJob]:
    hurried = HurriedJob(tmp_path)
    yield hurried
    for process in hurried.processes:
        process.kill()


def ends_at_once(process: Forked) -> str:
    """Interrupt a run a last time; returns what it has said."""
    process.send_signal(signal.SIGINT)
    begun = time.monotonic()
    output, _ = process.communicate(timeout=60)
    took = time.monotonic() - begun
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert took < AT_ONCE_S, output
    return output


def interrupt(process: Forked) -> None:
    """The first Ctrl-C, after which the run goes on for a while."""
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None


def test_while_the_queue_is_asked_whether_it_would_take_the_jobs(
    job: HurriedJob, queue: StandIn
) -> None:
    queue.hang("sbatch")
    process = job.begin("--fleet", "slurm")
    until(lambda: bool(queue.hanging()))
    # The command may be faster than the run that has started it.
    time.sleep(1)
    output = ends_at_once(process)
    assert "Interrupted before the first block was begun." in output
    assert not job.run_dir("h").exists()


def test_while_jobs_are_submitted(job: HurriedJob, queue: StandIn) -> None:
    # Only the trial, which comes first, is answered.
    sbatch = queue.folder / "sbatch"
    trial = '[[ "$*" == *--test-only* ]]'
    sbatch.write_text(sbatch.read_text().replace("if [ -e", f"if ! {trial} && [ -e"))
    queue.hang("sbatch")
    process = job.begin("--fleet", "slurm")
    until(lambda: bool(queue.hanging()))
    interrupt(process)
    output = ends_at_once(process)
    assert "the submission that was under way may yet have been taken" in output
    assert re.search(r"do it yourself with: scancel .*--name=predict-\w{8}\n", output)
    assert (job.run_dir("h") / "jobs.json").exists()


def test_while_the_queue_says_nothing_of_its_jobs_and_blocks_are_done(
    job: HurriedJob, queue: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    at_startup(monkeypatch, tmp_path, SLOW.replace("0.2", "0.5"))
    process = job.begin("--fleet", "slurm", "--workers", "2", "--slots", "1")
    until(lambda: job.blocks_done("h") > 0)
    queue.hang("squeue", "scancel")
    until(lambda: bool(queue.hanging()))
    before = job.blocks_done("h")
    until(lambda: job.blocks_done("h") > before + 2)
    interrupt(process)
    output = ends_at_once(process)
    assert "Slurm did not cancel the jobs named predict-" in output
    assert "scancel has not answered for 1 s" in output
    assert (job.run_dir("h") / "jobs.json").exists()


def test_while_jobs_are_cancelled_in_the_end(
    job: HurriedJob, queue: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    at_startup(monkeypatch, tmp_path, SLOW)
    process = job.begin("--fleet", "slurm", "--workers", "2", "--slots", "1")
    until(lambda: job.blocks_done("h") > 0)
    queue.hang("scancel")
    interrupt(process)
    until(lambda: bool(queue.hanging()))
    output = ends_at_once(process)
    assert "Slurm did not cancel the jobs named predict-" in output
    # The next run cancels what is left.
    (queue.folder / "hang-scancel").unlink()
    output, _ = job.begin("--overwrite").communicate(timeout=120)
    assert re.search(r"jobs of the last run, named predict-\w{8}, are cancelled", output), output


def test_commands_that_hear_no_signal_end_together(job: HurriedJob, tmp_path: Path) -> None:
    script = tmp_path / "start.sh"
    script.write_text(f"#!/bin/bash\ntrap '' TERM\necho $$ >>{tmp_path}/started\nsleep 1000\n")
    script.chmod(0o755)

    def started() -> list[int]:
        file = tmp_path / "started"
        return [int(line) for line in file.read_text().split()] if file.exists() else []

    process = job.begin("--fleet", f"{script} {{number}} {{run_dir}}", "--workers", "10")
    until(lambda: len(started()) == 10)
    interrupt(process)
    ends_at_once(process)
    until(lambda: not any(runs(pid) for pid in started()), 20)


def test_a_disk_that_is_full_when_a_job_is_replaced_ends_the_run_with_a_message(
    job: HurriedJob, queue: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    at_startup(monkeypatch, tmp_path, SLOW.replace("0.2", "1"))
    with small_disk(tmp_path / "disk", "1m") as disk:
        run_dir = disk / "run"
        process = job.begin("--fleet", "slurm", "--slots", "1", "--run-dir", run_dir)
        until(lambda: bool(RunDir(run_dir).begun and events(run_dir, "first")))
        fill(disk / "ballast")
        (joined,) = events(run_dir, "join")
        (queue.folder / "jobs").write_text("1_0|TIMEOUT|n1|TimeLimit|0|\n")
        os.kill(int(re.findall(r"process (\d+)", joined["name"])[0]), signal.SIGKILL)
        output, _ = process.communicate(timeout=100)
    assert process.returncode == 1, output
    assert "cannot be written: " in output
    assert "No space left on device" in output
    assert "Traceback" not in output
