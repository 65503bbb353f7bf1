"""A scheduler that died elsewhere, and clocks that jump."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.support.jobs import Job
from tests.support.runs import predict, stored_bytes
from tests.support.sabotage import WAITING, at_startup


@pytest.mark.slow
def test_a_scheduler_that_died_on_another_host_is_succeeded(
    job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    expected = stored_bytes(job.undisturbed())
    with monkeypatch.context() as patch:
        at_startup(patch, tmp_path, WAITING.format(folder=str(tmp_path)))
        process = job.begin_as_users_do("h")
        job.await_blocks("h", process)
        output = predict(*job.arguments("h"), code=2)
        assert f"is in use by process {process.pid} on {socket.gethostname()} since 20" in output
        process.kill()
        process.wait()
    # As if it had run elsewhere: what it left says so.
    lock = job.run_dir("h") / "lock"
    lock.write_text(lock.read_text().replace(f'"{socket.gethostname()}"', '"login-node-7"'))
    assert "login-node-7" in lock.read_text()
    output = predict(*job.arguments("h"))
    assert f"was last used by process {process.pid} on login-node-7 since 20" in output
    assert "waiting up to 15 s to see whether that is alive" in output
    assert "the lock of process" in output
    assert "is stale: it is no longer running" in output
    assert stored_bytes(job.output("h")) == expected


@pytest.mark.slow
def test_a_clock_that_jumps_changes_nothing(
    job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    expected = stored_bytes(job.undisturbed())
    at_startup(
        monkeypatch,
        tmp_path,
        "import sys\n"
        'if {"run", "worker"} & set(sys.orig_argv):\n'
        "    import random, time\n"
        "    real = time.time\n"
        "    time.time = lambda: real() + random.choice([-86400, -60, 0, 3600, 864000])\n",
    )
    output = predict(*job.arguments("t", "--workers", "2"))
    assert "Warning" not in output
    assert stored_bytes(job.output("t")) == expected
