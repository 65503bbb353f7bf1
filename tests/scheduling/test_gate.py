"""The scheduler's gate: who is let in, who is not, and that strangers do no harm."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from blockwise_predict.records import RunDir
from blockwise_predict.records.address import Address
from blockwise_predict.scheduling.transport.gate import MAX_HANDSHAKES
from blockwise_predict.scheduling.transport.tls import make_key
from tests.support.forked import Forked
from tests.support.fuzz import Fuzzer
from tests.support.jobs import Job
from tests.support.peers import UPGRADE, Peer, frame, hello, said, welcome
from tests.support.runs import command, events, predict, stored_bytes, until
from tests.support.sabotage import WAITING, at_startup


@pytest.fixture
def waiting(job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Forked:
    """A run `w` whose worker waits for a file `go`."""
    at_startup(monkeypatch, tmp_path, WAITING.format(folder=str(tmp_path)))
    return job.start("w")


def go(tmp_path: Path, process: Forked) -> str:
    """Let a waiting run go on, to its end."""
    (tmp_path / "go").touch()
    output, _ = process.communicate(timeout=100)
    assert process.returncode == 0, output
    return output


def answer(address: Address, key: str, data: bytes) -> dict[str, Any] | None:
    """What the scheduler answers to a frame of somebody who holds a key; None: nothing."""
    peer = Peer(replace(address, key=key))
    try:
        peer.send(data)
        return peer.hear()
    finally:
        peer.close()


def greeting(run_dir: RunDir, **changes: object) -> bytes:
    return said(hello("x", **{"run": run_dir.run_id(), **changes}))


def test_only_workers_of_this_run_are_let_in(job: Job, waiting: Forked, tmp_path: Path) -> None:
    run_dir = RunDir(job.run_dir("w"))
    address = run_dir.address()
    assert (run_dir.path / "server.json").stat().st_mode & 0o777 == 0o600

    def refused(**changes: object) -> str:
        heard = answer(address, address.key, greeting(run_dir, **changes))
        assert heard is not None
        assert heard["say"] == "refused"
        return heard["why"]

    assert "blockwise-predict 0.0.1, and the scheduler is" in refused(version="0.0.1")
    assert "works on another run: abc" in refused(run="abc")
    for nonsense in (b"{}", b"[]", b'[{"say": "next", "slot": 0}]', b"\0" * 99):
        assert answer(address, address.key, nonsense) is None
    # Without the key nothing is even read, and the other end notices that it is no scheduler of
    # its own either.
    with pytest.raises(ssl.SSLCertVerificationError):
        answer(address, make_key(), greeting(run_dir))
    anybody = ssl.create_default_context()
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    heard = b""
    with (
        socket.create_connection(("127.0.0.1", address.port)) as plain,
        anybody.wrap_socket(plain) as secured,
        suppress(ssl.SSLError, ConnectionError),
    ):
        secured.sendall(UPGRADE + frame(greeting(run_dir)))
        heard = secured.recv(100)
    assert heard == b""
    for nonsense in (b"GET / HTTP/1.1\r\n\r\n", UPGRADE, greeting(run_dir), b"\0" * 99):
        with socket.create_connection(("127.0.0.1", address.port)) as stranger:
            stranger.sendall(nonsense)
            stranger.shutdown(socket.SHUT_WR)
            heard = b""
            with suppress(ConnectionError):
                heard = stranger.recv(1000)
            assert b"{" not in heard
    assert len(events(run_dir.path, "join")) == 1
    go(tmp_path, waiting)


def test_a_number_that_another_worker_has_is_not_taken_from_it(
    job: Job, waiting: Forked, tmp_path: Path
) -> None:
    """A worker that comes back from an earlier scheduler may have a number that is in use now."""
    run_dir = RunDir(job.run_dir("w"))
    address = run_dir.address()
    heard = answer(address, address.key, greeting(run_dir, number=0))
    assert heard == welcome(1)
    go(tmp_path, waiting)
    assert {e["worker"] for e in events(run_dir.path, "first")} == {0}


def test_a_worker_by_hand_joins_and_a_run_of_local_workers_opens_nothing(
    job: Job, waiting: Forked, tmp_path: Path
) -> None:
    listening = [
        c.laddr.ip
        for process in (waiting.pid, *(p.pid for p in job.workers("w")))
        for c in psutil.Process(process).net_connections()
        if c.status == psutil.CONN_LISTEN
    ]
    assert listening == ["127.0.0.1"]
    added = subprocess.Popen(
        command("worker", job.run_dir("w"), "--device", "cpu"), stdout=subprocess.PIPE, text=True
    )
    while len(events(job.run_dir("w"), "join")) < 2:
        assert added.poll() is None
        time.sleep(0.05)
    output = go(tmp_path, waiting)
    text, _ = added.communicate(timeout=100)
    assert added.returncode == 0, text
    assert re.search(r"worker 1: [1-9]\d* blocks done", text)
    assert "27 blocks" in output
    assert "no scheduler runs in" in predict("worker", job.run_dir("w"), "--wait", "0", code=2)


def hold_open(port: int, count: int, first: bytes) -> list[socket.socket]:
    """Connections that say a little, and then nothing more."""
    held = []
    for _ in range(count):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.sendall(first)
        held.append(connection)
    return held


def ended(connection: socket.socket, seconds: float) -> bool:
    """Whether the other end ends a connection within so many seconds."""
    connection.settimeout(seconds)
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("first", [b"", b"\x16\x03\x01"], ids=["silent", "half a handshake"])
def test_connections_that_are_held_open_keep_nobody_out(
    first: bytes, job: Job, waiting: Forked, tmp_path: Path
) -> None:
    run_dir = RunDir(job.run_dir("w"))
    address = run_dir.address()
    held = hold_open(address.port, MAX_HANDSHAKES + 50, first)
    try:
        heard = answer(address, address.key, greeting(run_dir))
        assert heard is not None
        assert heard["say"] == "welcome"
        # All are ended after a while; those that came late have waited for their turn.
        assert ended(held[0], 10)
        assert ended(held[-1], 20)
    finally:
        for connection in held:
            connection.close()
    go(tmp_path, waiting)


@pytest.mark.slow
def test_nothing_that_strangers_send_does_harm(
    job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    expected = stored_bytes(job.undisturbed())
    at_startup(monkeypatch, tmp_path, WAITING.format(folder=str(tmp_path)))
    process = job.start("f", "--retries", "0")
    fuzzer = Fuzzer(RunDir(job.run_dir("f")), seed=1)
    fuzzer.run(CONNECTIONS)
    assert process.poll() is None
    memory = psutil.Process(process.pid).memory_info().rss
    assert memory < 1 << 30
    (tmp_path / "go").touch()
    output, _ = process.communicate(timeout=100)
    assert process.returncode == 0, output
    assert "Warning" not in output
    assert stored_bytes(job.output("f")) == expected
    assert len(fuzzer.kinds) == len(Fuzzer.KINDS), fuzzer.kinds
    # Of all of them, only the worker's own blocks were ever reported.
    assert not events(job.run_dir("f"), "error")
    assert not events(job.run_dir("f"), "oddity")


CONNECTIONS = 10_000

STUCK = """
import ctypes, pathlib, sys
mutex = ctypes.create_string_buffer(64)
def compute():
    pathlib.Path({folder!r}, "stuck").touch()
    for _ in range(2):
        ctypes.CDLL(None).pthread_mutex_lock(mutex)
""" + WAITING.replace(
    "time.sleep(0.05)", 'turn(compute) if "--grace" in sys.orig_argv else time.sleep(0.05)', 1
)
"""Like `WAITING`, but a worker with `--grace` stays in one long call of C, as torch's may be."""


@pytest.mark.slow
def test_a_preempted_worker_hands_back_what_it_cannot_finish(
    job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    at_startup(monkeypatch, tmp_path, STUCK.format(folder=str(tmp_path)))
    process = job.start("p", "--retries", "0")
    added = subprocess.Popen(
        command("worker", job.run_dir("p"), "--device", "cpu", "--grace", "1"),
        stdout=subprocess.PIPE,
        text=True,
    )
    until(lambda: len(events(job.run_dir("p"), "join")) == 2)
    # It does some blocks, and holds two more that do not end.
    until((tmp_path / "stuck").exists)
    time.sleep(0.5)
    begun = time.monotonic()
    added.terminate()
    text, _ = added.communicate(timeout=20)
    assert added.returncode == 0
    assert time.monotonic() - begun < 5
    assert "told to end: 2 blocks are handed back" in text
    go(tmp_path, process)
    # Nothing was lost, and nothing held against the blocks: they had one attempt only.
    assert [e["held"] for e in events(job.run_dir("p"), "leave") if e["worker"] == 1] == [[]]
    assert stored_bytes(job.output("p")) == stored_bytes(job.undisturbed())


@pytest.mark.slow
def test_waiting_workers_find_a_scheduler_that_was_started_again(
    job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    at_startup(monkeypatch, tmp_path, WAITING.format(folder=str(tmp_path)))
    process = job.begin_as_users_do("r")
    job.await_blocks("r", process)
    with open(tmp_path / "added.log", "w") as log:
        added = subprocess.Popen(command("worker", job.run_dir("r"), "--device", "cpu"), stdout=log)
    until(lambda: len(events(job.run_dir("r"), "join")) == 2)
    process.kill()
    process.wait()
    process = job.start("r")
    until(lambda: len(events(job.run_dir("r"), "join")) == 4)
    go(tmp_path, process)
    assert added.wait(20) == 0
    text = (tmp_path / "added.log").read_text()
    assert "the connection to the scheduler is lost: looking for it" in text
    assert re.search(r"worker 1: [1-9]\d* blocks done", text)
    joins = [event["worker"] for event in events(job.run_dir("r"), "join")]
    assert sorted(joins) == [0, 0, 1, 1]
    assert stored_bytes(job.output("r")) == stored_bytes(job.undisturbed())


def test_addresses_to_listen_on_that_are_not_here_are_refused(job: Job) -> None:
    output = predict(*job.arguments("l", "--listen", "192.0.2.77"), code=2)
    assert "--listen 192.0.2.77:0: this machine cannot listen there" in output
