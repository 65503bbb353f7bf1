"""Workers and the scheduler's server: who joins again, who may not, and what is reported then."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from blockwise_predict import __version__
from blockwise_predict.records.ledger import create_ledger, open_ledger
from blockwise_predict.records.rundir import Address
from blockwise_predict.scheduling import attempts, gate, link
from blockwise_predict.scheduling.dispatcher import Dispatcher, Notes
from blockwise_predict.scheduling.link import Link, Terms
from blockwise_predict.scheduling.protocol import Hello, Message, Next
from blockwise_predict.scheduling.server import Server
from blockwise_predict.scheduling.sockets import reachable_at
from blockwise_predict.scheduling.tls import client_context
from tests.runs import until
from tests.test_dispatcher import Blocks, done


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What happens after a while happens soon."""
    monkeypatch.setattr(attempts, "DEATH_DELAY", 0.1)
    monkeypatch.setattr(link, "MOVED_S", 0.2)


class Scheduler:
    """A server of a run named `run`, with some blocks; it knows nothing but their numbers."""

    def __init__(self, folder: Path, blocks: int = 4, deadline: float = 100.0) -> None:
        self._file = folder / f"{time.monotonic_ns()}.npy"
        self._blocks, self._deadline = blocks, deadline
        create_ledger(self._file, (blocks,))
        self.events: list[str] = []
        self.server = Server(self.dispatcher, "run", 0, "127.0.0.1", 0, self._event)

    def _event(self, kind: str, **_: object) -> None:
        self.events.append(kind)

    def dispatcher(self) -> Dispatcher:
        ledger = open_ledger(self._file, (self._blocks,))
        notes = Notes(lambda *_: pytest.fail("a block was given up"), self._event, lambda _: None)
        return Dispatcher(Blocks(self._blocks), ledger, 2, self._deadline, notes)

    @property
    def address(self) -> Address:
        return Address("here", "127.0.0.1", (), self.server.port, self.server.key)


@contextmanager
def serving(folder: Path, **options: Any) -> Iterator[Scheduler]:
    scheduler = Scheduler(folder, **options)
    scheduler.server.start()
    try:
        yield scheduler
        scheduler.server.check()
    finally:
        scheduler.server.close()


class Peer:
    """Somebody who holds the key, and says what he is told to."""

    def __init__(self, address: Address, *says: Message) -> None:
        plain = socket.create_connection(("127.0.0.1", address.port), timeout=20)
        self._socket = client_context(address.key).wrap_socket(plain)
        self._lines = self._socket.makefile("rb")
        self.say(*says)

    def say(self, *messages: Message) -> None:
        self.send(b"".join(message.line() for message in messages))

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def hear(self) -> dict[str, Any] | None:
        """The next message; None at the connection's end."""
        try:
            line = self._lines.readline()
        except ConnectionError:
            return None
        return json.loads(line) if line else None

    def close(self) -> None:
        self._lines.close()
        self._socket.close()


def hello(process: str, **changes: object) -> Hello:
    """The greeting of a worker on a host and with a process id that others have, too."""
    greeting = Hello(
        run="run", version=__version__, number=None, process=process, host="pod", pid=1, slots=1
    )
    return greeting.model_copy(update=changes)


def welcome(number: int) -> dict[str, object]:
    return {"say": "welcome", "number": number}


def test_workers_whose_host_and_process_id_are_the_same_are_two(tmp_path: Path) -> None:
    """As in containers on one machine; both come from an earlier scheduler, with its numbers."""
    with serving(tmp_path) as scheduler:
        first = Peer(scheduler.address, hello("a", number=5))
        assert first.hear() == welcome(5)
        second = Peer(scheduler.address, hello("b", number=5))
        assert second.hear() == welcome(6)
        for peer, block in ((first, 0), (second, 1)):
            peer.say(Next(slot=0))
            assert peer.hear() == {"say": "block", "slot": 0, "block": block}
        assert "leave" not in scheduler.events


def test_a_worker_that_connects_anew_keeps_its_number_and_leaves_its_block(tmp_path: Path) -> None:
    with serving(tmp_path, blocks=1) as scheduler:
        first = Peer(scheduler.address, hello("a"), Next(slot=0))
        assert [first.hear(), first.hear()] == [
            welcome(0),
            {"say": "block", "slot": 0, "block": 0},
        ]
        again = Peer(scheduler.address, hello("a", number=0), Next(slot=0))
        assert again.hear() == welcome(0)
        assert first.hear() is None
        assert again.hear() == {"say": "block", "slot": 0, "block": 0}
        again.say(done(0))
        until(scheduler.server.status.finished.is_set)
        assert scheduler.server.status.counts.done == 1


def test_a_worker_that_took_too_long_may_not_come_back(tmp_path: Path) -> None:
    """It hangs, or will again; whoever started it ends it, but that takes a while."""
    with serving(tmp_path, deadline=0.3) as scheduler:
        worker = Peer(scheduler.address, hello("a"), Next(slot=0))
        assert worker.hear() == welcome(0)
        assert worker.hear() == {"say": "block", "slot": 0, "block": 0}
        assert worker.hear() is None
        refused = Peer(scheduler.address, hello("a", number=0)).hear()
        assert refused is not None
        assert refused["say"] == "refused"
        assert "it took too long for a block" in refused["why"]
        assert Peer(scheduler.address, hello("b")).hear() == welcome(1)


def test_a_worker_that_is_one_too_many_stays_so_when_it_comes_back(tmp_path: Path) -> None:
    with serving(tmp_path) as scheduler:
        worker = Peer(scheduler.address, hello("a"))
        assert worker.hear() == welcome(0)
        scheduler.server.release([0])
        told = worker.hear()
        assert told is not None
        assert told["say"] == "end"
        again = Peer(scheduler.address, hello("a", number=0), Next(slot=0))
        assert again.hear() == welcome(0)
        told = again.hear()
        assert told is not None
        assert told["say"] == "end"


@pytest.mark.parametrize(
    "nonsense", [Next(slot=1), hello("a", number=0)], ids=["a slot too many", "hello twice"]
)
def test_who_talks_nonsense_is_cut_off_and_its_blocks_are_others(
    nonsense: Message, tmp_path: Path
) -> None:
    with serving(tmp_path, blocks=1) as scheduler:
        worker = Peer(scheduler.address, hello("a"), Next(slot=0))
        assert worker.hear() == welcome(0)
        assert worker.hear() is not None
        worker.say(nonsense)
        assert worker.hear() is None
        other = Peer(scheduler.address, hello("b"), Next(slot=0))
        assert other.hear() == welcome(1)
        assert other.hear() == {"say": "block", "slot": 0, "block": 0}


@pytest.mark.parametrize(
    "changes", [{"host": "x" * 301}, {"slots": 0}, {"slots": 10**6}, {"number": -1}], ids=str
)
def test_greetings_without_measure_are_not_answered(
    changes: dict[str, object], tmp_path: Path
) -> None:
    with serving(tmp_path) as scheduler:
        assert Peer(scheduler.address, hello("a", **changes)).hear() is None
        assert "join" not in scheduler.events


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
                assert gate.MAX_STRANGERS < 600
                workers = [Peer(scheduler.address, hello(str(n))) for n in range(3)]
                assert [worker.hear() for worker in workers] == [welcome(n) for n in range(3)]
                assert flood.poll() is None
            finally:
                flood.kill()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "0.0.0.0", "::1", "::"])
def test_this_machine_reaches_what_it_listens_on(host: str, tmp_path: Path) -> None:
    server = Server(Scheduler(tmp_path).dispatcher, "run", 0, host, 0, lambda *_, **__: None)
    here, others = reachable_at(host)
    server.start()
    try:
        address = Address("here", here, others, server.port, server.key)
        worker = Link(lambda: address, Terms("run", None, 1), threading.Event(), lambda *_: None)
        assert worker.number == 0
        worker.close()
    finally:
        server.close()
    assert not any(other.startswith("127.") for other in others)


def joined(find: Callable[[], Address], slots: int = 1) -> Link:
    terms = Terms("run", None, slots, wait=20.0)
    return Link(find, terms, threading.Event(), lambda *_: None)


def test_a_file_server_that_does_not_answer_is_waited_for(tmp_path: Path) -> None:
    with serving(tmp_path) as scheduler:
        finds = iter([OSError(5, "Input/output error"), OSError(116, "Stale file handle")])

        def find() -> Address:
            for error in finds:
                raise error
            return scheduler.address

        worker = joined(find)
        assert worker.next(0) == 0
        worker.close()


def test_a_worker_leaves_a_scheduler_that_stands_still_for_its_successor(tmp_path: Path) -> None:
    with serving(tmp_path) as first, serving(tmp_path) as second:
        addresses = [first.address]
        worker = joined(lambda: addresses[-1])
        assert worker.next(0) == 0
        # The successor has given this worker's number to one of its own.
        other = Peer(second.address, hello("b", number=0))
        assert other.hear() == welcome(0)
        addresses.append(second.address)
        until(lambda: second.server.status.attendance.present == {0, 1})
        worker.report(0, done(0))
        assert worker.next(0) == 0
        worker.close()
        assert second.server.status.counts.done == 0
    assert "leave" in first.events


def test_a_block_that_another_slot_holds_now_is_not_reported(tmp_path: Path) -> None:
    """After a reconnection, a slot ends a block that has since been given to another slot."""
    with serving(tmp_path, blocks=1) as first, serving(tmp_path, blocks=1) as second:
        addresses = [first.address]
        worker = joined(lambda: addresses[-1], slots=2)
        assert worker.next(0) == 0
        addresses.append(second.address)
        until(lambda: second.server.status.attendance.present == {0})
        assert worker.next(1) == 0
        # What slot 0 says is of the first connection; slot 1 still writes.
        worker.report(0, done(0))
        time.sleep(0.5)
        assert not second.server.status.finished.is_set()
        worker.report(1, done(0))
        until(second.server.status.finished.is_set)
        worker.close()
