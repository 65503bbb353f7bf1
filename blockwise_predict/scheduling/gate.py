"""The gate: accepts connections, and lets those through that hold the run's key and greet rightly.

Everybody else costs a little memory and time, and only for a while: who connects has some seconds
to show the key and say who it is, and when too many are about to, the one that has taken longest
makes room.
"""

from __future__ import annotations

import asyncio
import socket
import ssl

from blockwise_predict.scheduling.protocol import GREETING_S, MAX_LINE
from blockwise_predict.scheduling.reception import Reception
from blockwise_predict.scheduling.sockets import keep_watch

# So many may be about to.
MAX_STRANGERS = 256
# Without file descriptors left, it waits so long for one (seconds).
NO_DESCRIPTORS_S = 0.1
# An ending connection may take so long to say good-bye (seconds).
GOODBYE_S = 2.0


class Gate:
    """Passes the connections that a listening socket accepts to a reception."""

    def __init__(
        self, listener: socket.socket, context: ssl.SSLContext, reception: Reception
    ) -> None:
        self._listener = listener
        self._context = context
        self._reception = reception
        # In the order in which they came.
        self._strangers: dict[asyncio.Task[None], None] = {}
        self._admitted: set[asyncio.Task[None]] = set()

    async def accept(self) -> None:
        """Accept connections for ever."""
        loop = asyncio.get_running_loop()
        while True:
            # In a flood there is always another one to accept: the others get their turn first.
            await asyncio.sleep(0)
            try:
                accepted, _ = await loop.sock_accept(self._listener)
            except OSError:
                # None left, or one that was gone before it was accepted.
                await asyncio.sleep(NO_DESCRIPTORS_S)
                continue
            if len(self._strangers) >= MAX_STRANGERS:
                oldest = next(iter(self._strangers))
                del self._strangers[oldest]
                oldest.cancel()
            task = loop.create_task(self._connected(accepted))
            self._strangers[task] = None
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._strangers.pop(task, None)
        self._admitted.discard(task)

    async def _connected(self, accepted: socket.socket) -> None:
        """Serve a connection until it ends."""
        task = asyncio.current_task()
        assert task is not None
        writer = None
        try:
            async with asyncio.timeout(GREETING_S):
                reader, writer = await self._shake_hands(accepted)
                connection = await self._reception.greet(reader, writer)
            if connection is not None:
                self._strangers.pop(task, None)
                self._admitted.add(task)
                await self._reception.serve(connection, reader)
        except (OSError, TimeoutError):
            # A stranger, or one that has gone away: nothing that concerns the run.
            return
        finally:
            if writer is not None:
                writer.close()

    async def _shake_hands(
        self, accepted: socket.socket
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Both ends show the key. Raises ssl.SSLError, an OSError, if the other has none."""
        try:
            keep_watch(accepted)
        except OSError:
            accepted.close()
            raise
        # From here on the socket is the transport's to close.
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=MAX_LINE, loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport, _ = await loop.connect_accepted_socket(
            lambda: protocol,
            accepted,
            ssl=self._context,
            ssl_handshake_timeout=GREETING_S,
            ssl_shutdown_timeout=GOODBYE_S,
        )
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)
