"""Runs whose terminal, or whoever reads what they say, is gone end in good order all the same."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import subprocess
import termios
from pathlib import Path
from typing import Any

import pytest

from tests.support.jobs import Job
from tests.support.runs import command, events, predict, processes_of, stored_bytes, until
from tests.support.sabotage import SLOW, at_startup

pytestmark = pytest.mark.slow


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    at_startup(monkeypatch, tmp_path, SLOW)
    return Job(tmp_path)


def ends_interrupted(job: Job, process: subprocess.Popen[Any]) -> None:
    """The run was stopped, not broken off: workers finished what they held; it goes on."""
    assert process.wait(60) == 130
    assert 2 <= job.blocks_done("a") < 27
    assert [event["held"] for event in events(job.run_dir("a"), "leave")] == [[]]
    assert not processes_of(job.run_dir("a"))
    predict(*job.arguments("a"))
    assert stored_bytes(job.output("a")) == stored_bytes(job.undisturbed())


def test_a_terminal_that_is_closed_stops_the_run(job: Job) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command(*job.arguments("a")),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)
    shown = b""
    while b"Predicting" not in shown:
        shown += os.read(ours, 1 << 16)
    until(lambda: job.blocks_done("a") >= 2)
    os.close(ours)
    ends_interrupted(job, process)


def test_ctrl_c_that_also_ends_who_reads_stops_the_run(job: Job) -> None:
    """As in `predict run ... 2>&1 | tee log`."""
    process = job.begin_as_users_do("a")
    job.await_blocks("a", process)
    assert process.stdout is not None
    process.stdout.close()
    process.send_signal(signal.SIGINT)
    ends_interrupted(job, process)


def test_nohup_lets_a_run_go_on(job: Job) -> None:
    process = subprocess.Popen(["nohup", *command(*job.arguments("a"))], stdin=subprocess.DEVNULL)
    until(lambda: job.blocks_done("a") >= 2)
    process.send_signal(signal.SIGHUP)
    assert process.wait(100) == 0
