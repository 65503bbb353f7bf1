"""Either end of a connection: messages over a WebSocket.

aiohttp frames, answers pings, notices when the other end falls silent, and holds a sender back
while the other end does not read.
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

# An end that is not heard of for 1.5 times this long counts as cut off (seconds).
HEARTBEAT_S = 10.0
# Seconds that closing a connection may take.
GOODBYE_S = 2.0
# Larger frames are refused. Two slots' tracebacks are the longest thing to say.
MAX_FRAME = 1 << 20

M = TypeVar("M")
WebSocket = ClientWebSocketResponse | WebSocketResponse


class Wire(Generic[M]):
    """Sends messages in order, those of one moment in one frame, and receives them.

    What is sent waits until the connection takes it: senders bound what they send unread.
    `said_goodbye` tells, in the end, whether the other end has closed the connection in good order.
    """

    def __init__(self, socket: WebSocket, parse: TypeAdapter[list[M]]) -> None:
        self.said_goodbye = False
        self._socket = socket
        self._parse = parse
        self._outbox: list[Message] = []
        self._pending = asyncio.Event()

    def send(self, *messages: Message) -> None:
        """Send messages, or lose them with the connection."""
        self._outbox += messages
        self._pending.set()

    async def receive(self) -> list[M]:
        """The next messages; empty at the end, also that of one who sends something else."""
        try:
            message: WSMessage = await self._socket.receive()
        except ConnectionError:
            # It broke as a ping was to be answered.
            return []
        if message.type is WSMsgType.BINARY:
            try:
                return self._parse.validate_json(message.data)
            except ValidationError:
                return []
        self.said_goodbye = message.type is WSMsgType.CLOSE
        return []

    async def flush(self) -> None:
        """Send what waits."""
        self._pending.clear()
        if self._outbox:
            messages, self._outbox = self._outbox, []
            await self._socket.send_bytes(_encoded(messages))

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[None]:
        """Send what is to be sent, as long as this lasts."""
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
                # The connection's end, which `receive` tells of.
                return

    async def close(self) -> bool:
        """Send what waits, and close the connection; whether the other end has received it all."""
        try:
            async with asyncio.timeout(GOODBYE_S):
                await self.flush()
                await self._socket.close()
        except (ConnectionError, TimeoutError):
            return False
        return self._socket.close_code == 1000


def _encoded(messages: Sequence[Message]) -> bytes:
    return b"[" + b",".join(message.model_dump_json().encode() for message in messages) + b"]"
