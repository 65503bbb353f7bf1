"""The scheduler's server: what it listens on, who gets in when many connect, and what stops it."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from blockwise_predict.errors import RunFailedError
from blockwise_predict.records.address import Address
from blockwise_predict.scheduling.client import Client, ClientOptions
from blockwise_predict.scheduling.server import Server
from blockwise_predict.scheduling.transport import gate
from blockwise_predict.scheduling.transport.sockets import reachable_at
from tests.support.joined import joined
from tests.support.peers import Peer, Scheduler, hello, serving, welcome
from tests.support.runs import until

pytestmark = pytest.mark.usefixtures("soon")


def test_more_links_than_the_gate_takes_at_once_all_get_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(gate, "MAX_HANDSHAKES", 4)
    with serving(tmp_path, blocks=300) as scheduler, ThreadPoolExecutor(300) as starters:
        links = list(starters.map(lambda _: joined(lambda: scheduler.address, wait=60), range(300)))
        assert sorted(worker.number for worker in links) == list(range(300))
        assert sorted(worker.next(0) or 0 for worker in links) == list(range(300))
        list(starters.map(lambda worker: worker.close(), links))
        until(lambda: scheduler.present == set())


def failure_of(scheduler: Scheduler, knock: Callable[[], object]) -> str:
    """The error of a run after somebody has connected to its scheduler."""
    scheduler.server.start()
    knock()
    until(lambda: scheduler.server.status.error is not None)
    scheduler.server.close()
    with pytest.raises(RunFailedError) as failure:
        scheduler.server.check()
    return str(failure.value)


def test_a_record_that_cannot_be_written_is_told_as_such(tmp_path: Path) -> None:
    class Full(Scheduler):
        def _event(self, kind: str, **_: object) -> None:
            raise OSError(28, "No space left on device", kind)

    scheduler = Full(tmp_path)
    told = failure_of(scheduler, lambda: Peer(scheduler.address, hello("a")).hear())
    assert told.startswith("the run's records cannot be written: [Errno 28] No space left")


def test_another_error_of_the_system_is_no_matter_of_records(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def broken(_: gate.Gate, accepted: socket.socket) -> None:
        accepted.close()
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(gate.Gate, "_shake_hands", broken)
    scheduler = Scheduler(tmp_path)
    here = ("127.0.0.1", scheduler.server.port)
    told = failure_of(scheduler, lambda: socket.create_connection(here).close())
    assert told == "the scheduler stopped: OSError(5, 'Input/output error')"


FLOOD = """
import socket, sys, time
port, held, end = int(sys.argv[1]), [], time.monotonic() + 60
while time.monotonic() < end:
    stranger = socket.socket()
    stranger.setblocking(False)
    stranger.connect_ex(("127.0.0.1", port))
    held.append(stranger)
    if len(held) > 600:
        held.pop(0).close()
    if len(held) == 600:
        print("600", flush=True)
"""
"""Opens connections as fast as it can, and keeps the last 600 open."""


def test_workers_get_in_beside_a_flood(tmp_path: Path) -> None:
    with serving(tmp_path) as scheduler:
        command = [sys.executable, "-c", FLOOD, str(scheduler.server.port)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as flood:
            try:
                assert flood.stdout is not None
                assert flood.stdout.readline() == "600\n"
                assert gate.MAX_HANDSHAKES < 600
                workers = [Peer(scheduler.address, hello(str(n))) for n in range(3)]
                assert [worker.hear() for worker in workers] == [welcome(n) for n in range(3)]
                assert flood.poll() is None
            finally:
                flood.kill()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "0.0.0.0", "::1", "::"])
def test_this_machine_reaches_what_it_listens_on(host: str, tmp_path: Path) -> None:
    server = Server(
        Scheduler(tmp_path).dispatcher,
        run="run",
        first_number=0,
        host=host,
        port=0,
        event=lambda *_, **__: None,
    )
    here, others = reachable_at(host)
    server.start()
    try:
        address = Address("here", here, others, server.port, server.key)
        worker = Client(
            lambda: address, ClientOptions("run", None, 1), threading.Event(), lambda *_: None
        )
        assert worker.number == 0
        worker.close()
    finally:
        server.close()
    assert not any(other.startswith("127.") for other in others)
