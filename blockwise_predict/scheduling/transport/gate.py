"""The gate: accepts connections, and lets those through that hold the run's key and greet rightly.

Everybody else costs a little memory and time, and only for a while: who connects has some seconds
to show the key, and while many do, the others wait for their turn.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from aiohttp import web

from blockwise_predict.scheduling.transport.messages import GREETING_S, FromWorker, parse_worker
from blockwise_predict.scheduling.transport.sockets import keep_watch
from blockwise_predict.scheduling.transport.wire import GOODBYE_S, HEARTBEAT_S, MAX_FRAME, Wire

# Maximum number of connections that may be about to show the key.
MAX_STRANGERS = 256
# Seconds that each has for it. Workers wait longer than that for their turn.
HANDSHAKE_S = 5.0
# Without file descriptors left, seconds to wait for one.
NO_DESCRIPTORS_S = 0.1


class Server(Protocol):
    """Whom the gate passes connections to."""

    async def serve(
        self, wire: Wire[FromWorker], abort: Callable[[], None], admitted: Callable[[], None]
    ) -> None:
        """Serve a connection until it ends; calls `admitted` if it is a worker's of this run, and
        `abort` to cut it off."""


class Gate:
    """Passes the connections that a listening socket accepts to a server. What aiohttp stumbles
    over goes to `log`."""

    def __init__(
        self,
        listener: socket.socket,
        context: ssl.SSLContext,
        server: Server,
        log: logging.Logger,
    ) -> None:
        self._listener = listener
        self._context = context
        self._server = server
        self._room = asyncio.Semaphore(MAX_STRANGERS)
        # A protocol for each connection: HTTP as far as it takes to become a WebSocket.
        self._http = web.Server(self._serve, access_log=None, logger=log, lingering_time=0)
        # When those who have shown the key, but not said who they are, are cut off.
        self._deadlines: dict[asyncio.BaseTransport, asyncio.TimerHandle] = {}

    async def accept(self) -> None:
        """Accept connections for ever."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as handshakes:
            while True:
                # At the cap nobody else is accepted, and nobody who is about to join turned away.
                await self._room.acquire()
                # In a flood there is always another one to accept: the others get their turn first.
                await asyncio.sleep(0)
                try:
                    accepted, _ = await loop.sock_accept(self._listener)
                except OSError:
                    # None left, or one that was gone before it was accepted.
                    self._room.release()
                    await asyncio.sleep(NO_DESCRIPTORS_S)
                    continue
                handshakes.create_task(self._shake_hands(accepted))

    async def _shake_hands(self, accepted: socket.socket) -> None:
        """Both ends show the key, or the connection is closed."""
        loop = asyncio.get_running_loop()
        try:
            try:
                keep_watch(accepted)
            except OSError:
                accepted.close()
                raise
            # From here on the socket is the transport's to close.
            transport, _ = await loop.connect_accepted_socket(
                self._http,
                accepted,
                ssl=self._context,
                ssl_handshake_timeout=HANDSHAKE_S,
                ssl_shutdown_timeout=GOODBYE_S,
            )
        except OSError:
            # A stranger, or one that has gone away: nothing that concerns the run.
            return
        finally:
            self._room.release()
        self._deadlines[transport] = loop.call_later(GREETING_S, self._cut_off, transport)

    def _cut_off(self, transport: asyncio.Transport) -> None:
        self._deadlines.pop(transport, None)
        transport.abort()

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """Serve a connection until it ends."""
        websocket = web.WebSocketResponse(
            heartbeat=HEARTBEAT_S, max_msg_size=MAX_FRAME, compress=False, timeout=GOODBYE_S
        )
        transport = request.transport
        try:
            is_websocket = bool(websocket.can_prepare(request))
        except ValueError:
            # aiohttp trips over headers that are no text.
            is_websocket = False
        if transport is None or not is_websocket:
            response = web.Response(status=400)
            response.force_close()
            return response

        def admitted() -> None:
            if (deadline := self._deadlines.pop(transport, None)) is not None:
                deadline.cancel()

        try:
            # Some go away before they are admitted.
            with suppress(ConnectionError):
                await websocket.prepare(request)
                await self._server.serve(Wire(websocket, parse_worker), transport.abort, admitted)
        finally:
            admitted()
            transport.abort()
        return websocket

    async def close(self) -> None:
        """Cut off all connections."""
        for deadline in self._deadlines.values():
            deadline.cancel()
        await self._http.shutdown(GOODBYE_S)
