"""A worker's link: connections that break, and schedulers that end, stand still or move."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

import pytest
from aiohttp import web

from blockwise_predict.records.address import Address
from blockwise_predict.scheduling import worker_server
from blockwise_predict.scheduling.client import Client, ClientOptions
from blockwise_predict.scheduling.transport import connect, gate
from blockwise_predict.scheduling.transport.messages import (
    End,
    Message,
    Welcome,
)
from blockwise_predict.scheduling.transport.tls import make_key, server_context
from tests.support.cable import cable
from tests.support.joined import Worker, joined
from tests.support.peers import Peer, done, hello, said, serving, welcome
from tests.support.runs import until

pytestmark = pytest.mark.usefixtures("soon", "patient_handshakes")


@contextmanager
def scheduler(*says: Message, stays: bool = False) -> Iterator[Address]:
    """A scheduler that says these things to everybody, and goes, or `stays`."""
    key = make_key()

    async def greet(request: web.BaseRequest) -> web.StreamResponse:
        websocket = web.WebSocketResponse()
        await websocket.prepare(request)
        await websocket.receive()
        for message in says:
            await websocket.send_bytes(said(message))
        if stays:
            await websocket.receive()
        await websocket.close()
        return websocket

    async def start() -> asyncio.Server:
        return await asyncio.get_running_loop().create_server(
            web.Server(greet), "127.0.0.1", 0, ssl=server_context(key)
        )

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(start(), loop).result()
    try:
        yield Address("here", "127.0.0.1", (), server.sockets[0].getsockname()[1], key)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def test_a_slot_that_asks_when_the_scheduler_has_gone_does_not_wait_for_an_answer() -> None:
    with scheduler(Welcome(number=3), End(why="there are no more blocks")) as address:
        link = Client(
            lambda: address, ClientOptions("run", None, 2), threading.Event(), lambda *_: None
        )
        assert link.number == 3
        while any(thread.name == "scheduler-client" for thread in threading.enumerate()):
            time.sleep(0.01)
        answers: list[int | None] = []
        asking = threading.Thread(
            target=lambda: answers.extend(link.next(slot) for slot in range(2)), daemon=True
        )
        asking.start()
        asking.join(20)
        assert answers == [None, None]
        link.close()


def test_what_goes_on_besides_does_not_fail_unheard(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that cannot be told to end any more must not work on as if it could."""

    async def fails(_: Client) -> None:
        await asyncio.sleep(0.1)
        raise ValueError("no clock")

    monkeypatch.setattr(Client, "_watch_for_stop", fails)
    ends: SimpleQueue[tuple[str, bool]] = SimpleQueue()
    with scheduler(Welcome(number=3), stays=True) as address:
        terms = ClientOptions("run", None, 1)
        link = Client(lambda: address, terms, threading.Event(), lambda *end: ends.put(end))
        assert ends.get(timeout=20) == ("no clock", False)
        assert link.next(0) is None


@pytest.mark.parametrize("slots", [1, 2])
def test_all_connections_cut_ten_times_cost_nothing(slots: int, tmp_path: Path) -> None:
    """No attempt, no block done twice, and nothing stops."""
    with (
        serving(tmp_path, blocks=400, retries=0) as scheduler,
        cable(scheduler.address) as (wires, address),
    ):
        workers = [Worker(address, slots, 0.05) for _ in range(4)]
        for worker in workers:
            worker.start()
        for cut in range(1, 11):
            # The last time with half of the blocks left, however late this thread is.
            until(lambda cut=cut: scheduler.server.status.counts.done >= 20 * cut)
            wires.cut()
            until(lambda cut=cut: scheduler.events.count("rejoin") >= 4 * cut)
        until(scheduler.server.status.finished.is_set, 60)
        assert scheduler.server.status.reason is None
        for worker in workers:
            worker.join(20)
        assert sorted(number for w in workers for number in w.done) == list(range(400))
        assert scheduler.events.count("join") == 4
        assert not scheduler.warnings
        assert "error" not in scheduler.events


def test_a_black_hole_shorter_than_the_grace_costs_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nothing is carried, and nobody told: both ends have to notice by themselves."""
    monkeypatch.setattr(gate, "HEARTBEAT_S", 2.0)
    monkeypatch.setattr(connect, "HEARTBEAT_S", 2.0)
    monkeypatch.setattr(connect, "CONNECT_S", 3.0)
    monkeypatch.setattr(worker_server, "GRACE_S", 20.0)
    with (
        serving(tmp_path, blocks=100, retries=0) as scheduler,
        cable(scheduler.address) as (wires, address),
    ):
        workers = [Worker(address, 2, 0.05) for _ in range(3)]
        for worker in workers:
            worker.start()
        until(lambda: scheduler.server.status.counts.done >= 20)
        wires.swallow(True)
        until(lambda: scheduler.events.count("disconnect") == 3)
        assert scheduler.present == {0, 1, 2}
        wires.cut()
        wires.swallow(False)
        until(scheduler.server.status.finished.is_set, 60)
        for worker in workers:
            worker.join(20)
        assert sorted(number for w in workers for number in w.done) == list(range(100))
        assert not scheduler.warnings
        assert not {"leave", "error"} & set(scheduler.events[: scheduler.events.index("rejoin")])


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
        until(lambda: second.present == {0, 1})
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
        until(lambda: second.present == {0})
        assert worker.next(1) == 0
        # What slot 0 says is of the first connection; slot 1 still writes.
        worker.report(0, done(0))
        time.sleep(0.5)
        assert not second.server.status.finished.is_set()
        worker.report(1, done(0))
        until(second.server.status.finished.is_set)
        worker.close()
