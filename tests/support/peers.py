"""A scheduler's server without volume or fleet, and somebody who says to it what a test wants."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from blockwise_predict import __version__
from blockwise_predict.records.address import Address
from blockwise_predict.records.ledger import create_ledger, open_ledger
from blockwise_predict.scheduling.dispatcher import Callbacks, Dispatcher
from blockwise_predict.scheduling.server import Server
from blockwise_predict.scheduling.transport.messages import Done, Hello, Message
from blockwise_predict.scheduling.transport.tls import client_context


class Blocks:
    """A source of the blocks 0 to n."""

    def __init__(self, count: int) -> None:
        self.left = list(range(count))
        self.finished: list[int] = []

    @property
    def empty(self) -> bool:
        return not self.left

    def next(self, worker: int) -> int | None:  # noqa: ARG002
        return self.left.pop(0) if self.left else None

    def finish(self, block: int) -> None:
        self.finished.append(block)

    def close(self) -> None:
        self.left = []


def done(block: int) -> Done:
    """The report of a block."""
    return Done(block=block, read=0, compute=1, write=0, clipped=[1], nonfinite=[0])


class Scheduler:
    """A server of a run named `run`, with some blocks; it knows nothing but their numbers."""

    def __init__(
        self, folder: Path, blocks: int = 4, retries: int = 2, deadline: float = 100.0
    ) -> None:
        self._file = folder / f"{time.monotonic_ns()}.npy"
        self._blocks, self._retries, self._deadline = blocks, retries, deadline
        create_ledger(self._file, (blocks,))
        self.events: list[str] = []
        self.warnings: list[str] = []
        self.server = Server(
            self.dispatcher, run="run", first_number=0, host="127.0.0.1", port=0, event=self._event
        )

    def _event(self, kind: str, **_: object) -> None:
        self.events.append(kind)

    def dispatcher(self) -> Dispatcher:
        ledger = open_ledger(self._file, (self._blocks,))
        notes = Callbacks(
            lambda *_: pytest.fail("a block was given up"), self._event, self.warnings.append
        )
        return Dispatcher(
            Blocks(self._blocks), ledger, notes, retries=self._retries, block_timeout=self._deadline
        )

    @property
    def address(self) -> Address:
        return Address("here", "127.0.0.1", (), self.server.port, self.server.key)

    @property
    def present(self) -> frozenset[int]:
        """Numbers of the workers that are there, or may come back."""
        return self.server.status.membership.present


@contextmanager
def serving(folder: Path, **options: Any) -> Iterator[Scheduler]:
    """A scheduler's server that runs, and in the end has nothing to complain of."""
    scheduler = Scheduler(folder, **options)
    scheduler.server.start()
    try:
        yield scheduler
        scheduler.server.check()
    finally:
        scheduler.server.close()


class Peer:
    """Somebody who holds the key, and says what he is told to, in another library's WebSockets."""

    def __init__(self, address: Address, *says: Message) -> None:
        self._open = connect(
            f"wss://127.0.0.1:{address.port}/",
            ssl=client_context(address.key),
            compression=None,
            open_timeout=20,
            close_timeout=2,
        )
        self._socket = self._open.__enter__()
        self._heard: list[dict[str, Any]] = []
        for message in says:
            self.say(message)

    def say(self, *messages: Message) -> None:
        """Send messages, in one frame."""
        self.send(said(*messages))

    def send(self, data: bytes) -> None:
        """Send a frame of any kind."""
        self._socket.send(data)

    def hear(self) -> dict[str, Any] | None:
        """The next message; None at the connection's end."""
        if not self._heard:
            try:
                self._heard = json.loads(self._socket.recv(20))
            except ConnectionClosed:
                return None
        return self._heard.pop(0)

    def cut(self) -> None:
        """End the connection without a word."""
        # Closed, it would still be read by a thread of the library, which would then take what
        # comes for whoever gets its descriptor next.
        self._socket.socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the connection in good order."""
        self._open.__exit__(None, None, None)


UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def frame(data: bytes, opcode: int = 2) -> bytes:
    """A WebSocket frame as a client sends it, masked with zeros (RFC 6455, section 5.2)."""
    if len(data) < 126:
        head = bytes([0x80 | opcode, 0x80 | len(data)])
    else:
        head = bytes([0x80 | opcode, 0x80 | 127]) + len(data).to_bytes(8)
    return head + b"\0" * 4 + data


def said(*messages: Message) -> bytes:
    """Messages as one frame's contents."""
    return f"[{','.join(message.model_dump_json() for message in messages)}]".encode()


def hello(process: str, **changes: object) -> Hello:
    """The greeting of a worker on a host and with a process id that others have, too."""
    greeting = Hello(
        run="run", version=__version__, number=None, process=process, host="pod", pid=1, slots=1
    )
    return greeting.model_copy(update=changes)


def welcome(number: int, *kept: int) -> dict[str, object]:
    """The scheduler's answer to a greeting."""
    return {"say": "welcome", "number": number, "kept": list(kept)}


def block(number: int, slot: int = 0) -> dict[str, object]:
    """A block for a slot, as the scheduler hands it out."""
    return {"say": "block", "slot": slot, "block": number}
