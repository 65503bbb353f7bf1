"""A worker's link to a scheduler that ends."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue

import pytest
from aiohttp import web

from blockwise_predict.records.address import Address
from blockwise_predict.scheduling.client import Client, ClientOptions
from blockwise_predict.scheduling.transport.messages import End, Message, Welcome
from blockwise_predict.scheduling.transport.tls import make_key, server_context
from tests.support.peers import said


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
