"""Fleets of any command, workers on other hosts, and a number of workers that changes."""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from blockwise_predict.fleet.commands import filled_in
from blockwise_predict.records import RunDir
from blockwise_predict.scheduling.transport.wire import HEARTBEAT_S
from tests.support.hosts import Host, hosts
from tests.support.jobs import Job
from tests.support.runs import command, events, predict, processes_of, stored_bytes, until
from tests.support.sabotage import WAITING, at_startup

# What is silent, or cannot be reached, is noticed soon.
SOON = """
import sys
if {"run", "worker"} & set(sys.orig_argv):
    from blockwise_predict.scheduling import worker_server
    from blockwise_predict.scheduling.transport import connect, gate, sockets
    gate.HEARTBEAT_S = connect.HEARTBEAT_S = 3.0
    worker_server.GRACE_S = 2.0
    sockets.UNREACHABLE_MS = 4000
"""


def test_the_words_of_a_command(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path / "my run")
    worker = filled_in("nice {worker}", run_dir, 3)[1:]
    assert worker[1:] == [
        *("-m", "blockwise_predict", "worker", str(tmp_path / "my run"), "--number", "3")
    ]
    assert filled_in("ssh gpu{number}", run_dir, 3) == ["ssh", "gpu3", *worker]
    quoted = filled_in("sh -c 'cd /x; {worker}'", run_dir, 3)
    assert quoted[2].endswith(f"worker '{tmp_path}/my run' --number 3")
    assert filled_in("qsub -v RUN={run_dir} my.pbs", run_dir, 0) == [
        *("qsub", "-v", f"RUN={run_dir}", "my.pbs")
    ]


def test_a_command_that_is_not_there_is_found_at_once(job: Job) -> None:
    output = predict(*job.arguments("c", "--fleet", "no-such-program x"), code=2)
    assert (
        "--fleet 'no-such-program x': no-such-program: command not found on this machine" in output
    )
    assert not job.run_dir("c").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "fleet",
    ["nice -n 3", "bash -c '(setsid {worker} --wait 3 >/dev/null 2>&1 &)'"],
    ids=["stays", "returns"],
)
def test_workers_of_a_command_do_the_blocks_and_end(fleet: str, job: Job) -> None:
    """Whether the command is the worker, or passes it on and returns at once, as qsub does."""
    predict(*job.arguments("c", "--fleet", fleet, "--workers", "2"))
    assert stored_bytes(job.output("c")) == stored_bytes(job.undisturbed())
    assert {event["worker"] for event in events(job.run_dir("c"), "join")} <= {0, 1}
    until(lambda: not processes_of(job.run_dir("c")), 30)


@pytest.mark.slow
def test_local_workers_are_scaled_up_and_down(
    job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    expected = stored_bytes(job.undisturbed())
    at_startup(monkeypatch, tmp_path, WAITING.format(folder=str(tmp_path)))
    process = job.start("s", "--workers", "1")
    predict("scale", job.output("s"), "3")
    until(lambda: len(events(job.run_dir("s"), "join")) == 3)
    until(lambda: job.blocks_done("s") == 12)
    predict("scale", job.output("s"), "1")
    until(lambda: len(events(job.run_dir("s"), "scale")) == 2)
    (tmp_path / "go").touch()
    output, _ = process.communicate(timeout=100)
    assert process.returncode == 0, output
    assert "Warning" not in output
    # Those that were too many finished what they held, and left.
    gone = [event for event in events(job.run_dir("s"), "leave") if event["worker"] in (1, 2)]
    assert [event["held"] for event in gone] == [[], []]
    assert stored_bytes(job.output("s")) == expected


@pytest.mark.slow
def test_a_run_that_starts_no_workers_waits_for_those_that_join(job: Job) -> None:
    expected = stored_bytes(job.undisturbed())
    run_dir = job.run_dir("z")
    run = subprocess.Popen(
        command(*job.arguments("z", "--workers", "0")),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    until(lambda: (run_dir / "server.json").exists())
    predict("worker", run_dir)
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 0, output
    assert f"No workers are started; add them with: predict worker {run_dir}" in output
    assert stored_bytes(job.output("z")) == expected


@pytest.mark.slow
def test_a_scheduler_that_moves_to_another_host_is_found_again(
    job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    expected = stored_bytes(job.undisturbed())
    at_startup(monkeypatch, tmp_path, WAITING.format(folder=str(tmp_path)))

    def scheduler(host: Host) -> subprocess.Popen[str]:
        options = job.arguments("m", "--workers", "0", "--listen", host.there)
        words = host.command(*command(*options))
        return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    with hosts(2) as (first, second):
        run = scheduler(first)
        until(lambda: (job.run_dir("m") / "server.json").exists())
        worker = subprocess.Popen(command("worker", job.run_dir("m"), "--device", "cpu"))
        until(lambda: job.blocks_done("m") == 4)
        run.kill()
        run.wait()
        run = scheduler(second)
        until(lambda: len(events(job.run_dir("m"), "join")) == 2)
        (tmp_path / "go").touch()
        output, _ = run.communicate(timeout=100)
        assert run.returncode == 0, output
        assert worker.wait(20) == 0
    assert stored_bytes(job.output("m")) == expected


@pytest.mark.slow
def test_workers_on_other_hosts_through_the_gate(job: Job) -> None:
    expected = stored_bytes(job.undisturbed())
    with hosts(2) as (first, _):
        name = first.name.removesuffix("0")
        fleet = f"ip netns exec {name}{{number}} {{worker}}"
        predict(*job.arguments("n", "--fleet", fleet, "--workers", "2"))
    assert {event["worker"] for event in events(job.run_dir("n"), "join")} <= {0, 1}
    assert stored_bytes(job.output("n")) == expected


@pytest.mark.slow
def test_a_cable_that_is_cut_costs_nothing_and_the_worker_comes_back(
    job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    expected = stored_bytes(job.undisturbed())
    with hosts(1) as (host,):
        at_startup(monkeypatch, tmp_path, SOON + WAITING.format(folder=str(tmp_path)))
        process = job.start("c", "--listen", host.here)
        with open(tmp_path / "there.log", "w") as log:
            there = subprocess.Popen(
                host.command(*command("worker", job.run_dir("c"), "--device", "cpu")), stdout=log
            )
        until(lambda: len(events(job.run_dir("c"), "join")) == 2)
        until(lambda: job.blocks_done("c") == 8)
        host.cut()
        until(lambda: len(events(job.run_dir("c"), "leave")) == 1)
        left = events(job.run_dir("c"), "leave")[0]
        assert left["worker"] == 1
        assert len(left["held"]) == 2
        until(lambda: "is lost: looking for it" in (tmp_path / "there.log").read_text())
        host.mend()
        until(lambda: len(events(job.run_dir("c"), "join")) == 3)
        (tmp_path / "go").touch()
        output, _ = process.communicate(timeout=100)
        assert process.returncode == 0, output
        assert there.wait(20) == 0
    assert stored_bytes(job.output("c")) == expected


@pytest.mark.slow
def test_forty_seconds_without_a_network_cost_nothing(
    job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Workers on two hosts are cut off in the middle of their blocks, with the real patience."""
    expected = stored_bytes(job.undisturbed())
    with hosts(2) as machines:
        at_startup(monkeypatch, tmp_path, WAITING.format(folder=str(tmp_path)))
        options = ("--workers", "0", "--listen", "0.0.0.0", "--retries", "0")
        process = subprocess.Popen(
            command(*job.arguments("b", *options)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        run_dir = job.run_dir("b")
        until(lambda: (run_dir / "server.json").exists())
        work = command("worker", run_dir, "--device", "cpu")
        workers = [subprocess.Popen(host.command(*work)) for host in machines for _ in range(2)]
        until(lambda: len(events(run_dir, "join")) == 4)
        until(lambda: job.blocks_done("b") == 16)
        for host in machines:
            host.cut()
        until(lambda: len(events(run_dir, "disconnect")) == 4)
        # Blocks are finished and cannot be reported, and nobody is there to be asked for others.
        (tmp_path / "go").touch()
        time.sleep(40 - HEARTBEAT_S * 1.5)
        for host in machines:
            host.mend()
        output, _ = process.communicate(timeout=100)
        assert process.returncode == 0, output
        assert [worker.wait(20) for worker in workers] == [0] * 4
    assert "Warning" not in output
    kinds = Counter(event["event"] for event in RunDir(run_dir).events.read())
    assert (kinds["join"], kinds["rejoin"], kinds["leave"]) == (4, 4, 4)
    assert not kinds["error"]
    assert stored_bytes(job.output("b")) == expected


@pytest.mark.slow
def test_a_run_of_local_workers_cannot_be_reached_from_elsewhere(
    job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with hosts(1) as (host,):
        at_startup(monkeypatch, tmp_path, WAITING.format(folder=str(tmp_path)))
        process = job.start("l")
        port = RunDir(job.run_dir("l")).address().port
        knock = f"exec 3<>/dev/tcp/{host.here}/{port}"
        result = subprocess.run(host.command("bash", "-c", knock), capture_output=True, text=True)
        assert "Connection refused" in result.stderr
        there = host.command(*command("worker", job.run_dir("l"), "--wait", "0"))
        result = subprocess.run(there, capture_output=True, text=True)
        assert result.returncode == 2
        assert "It listens on its own machine only; predict run --listen ADDRESS" in result.stderr
        (tmp_path / "go").touch()
        assert process.wait(100) == 0
