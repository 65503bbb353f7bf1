"""Either side of a connection: messages over a WebSocket.

aiohttp does the framing and the heartbeat, and blocks a sender while its peer does not read.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

from aiohttp import ClientWebSocketResponse, WSMessage, WSMsgType
from aiohttp.web import WebSocketResponse
from pydantic import TypeAdapter, ValidationError

from blockwise_predict.scheduling.transport.messages import Message

# Interval between pings (seconds); a peer that is silent for 1.5 times as long counts as lost.
HEARTBEAT_S = 10.0
# Timeout for closing a connection (seconds).
CLOSE_TIMEOUT_S = 2.0
# Maximum size of a frame (bytes). The largest that occur hold the tracebacks of several slots.
MAX_FRAME = 1 << 20

M = TypeVar("M")
WebSocket = ClientWebSocketResponse | WebSocketResponse


class Wire(Generic[M]):
    """Sends messages in order, batched into frames, and receives them.

    Messages wait in memory until the connection accepts them, so callers must bound what they send
    to a peer that does not read. `closed_cleanly` says, once the connection has ended, whether the
    peer closed it with a WebSocket close frame.
    """

    def __init__(self, socket: WebSocket, parse: TypeAdapter[list[M]]) -> None:
        self.closed_cleanly = False
        self._socket = socket
        self._parse = parse
        self._outbox: list[Message] = []
        self._pending = asyncio.Event()

    def send(self, *messages: Message) -> None:
        """Queue messages to be sent; they are lost if the connection breaks."""
        self._outbox += messages
        self._pending.set()

    async def receive(self) -> list[M]:
        """The next messages; empty when the connection ends, or after anything but messages."""
        try:
            message: WSMessage = await self._socket.receive()
        except ConnectionError:
            # The connection broke while a ping was being answered.
            return []
        if message.type is WSMsgType.BINARY:
            try:
                return self._parse.validate_json(message.data)
            except ValidationError:
                return []
        self.closed_cleanly = message.type is WSMsgType.CLOSE
        return []

    async def flush(self) -> None:
        """Send the queued messages."""
        self._pending.clear()
        if self._outbox:
            messages, self._outbox = self._outbox, []
            await self._socket.send_bytes(_encoded(messages))

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[None]:
        """Send queued messages in the background while the context lasts."""
        sender = asyncio.create_task(self._send())
        try:
            yield
        finally:
            sender.cancel()

    async def _send(self) -> None:
        while True:
            await self._pending.wait()
            try:
                await self.flush()
            except ConnectionError:
                # `receive` reports the end of the connection.
                return

    async def close(self) -> bool:
        """Send the queued messages, and close; returns whether the peer has received them all."""
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self.flush()
                await self._socket.close()
        except (ConnectionError, TimeoutError):
            return False
        return self._socket.close_code == 1000


def _encoded(messages: Sequence[Message]) -> bytes:
    return b"[" + b",".join(message.model_dump_json().encode() for message in messages) + b"]"
