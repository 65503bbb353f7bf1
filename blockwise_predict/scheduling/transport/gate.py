"""The gate: accepts connections, and passes on those that prove to hold the run's key.

All other connections cost little: each has a few seconds for the TLS handshake, and only a limited
number of handshakes is under way at the same time, while the rest wait in the listen queue.
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

from blockwise_predict.scheduling.transport.messages import (
    HELLO_TIMEOUT_S,
    FromWorker,
    parse_worker,
)
from blockwise_predict.scheduling.transport.sockets import configure
from blockwise_predict.scheduling.transport.wire import (
    CLOSE_TIMEOUT_S,
    HEARTBEAT_S,
    MAX_FRAME,
    Wire,
)

# Maximum number of TLS handshakes at the same time.
MAX_HANDSHAKES = 256
# Timeout of a handshake (seconds). Workers wait for their turn for longer than that.
HANDSHAKE_S = 5.0
# Delay before accepting again when the process is out of file descriptors (seconds).
ACCEPT_DELAY_S = 0.1


class ConnectionHandler(Protocol):
    """What the gate passes connections to."""

    async def serve(
        self, wire: Wire[FromWorker], abort: Callable[[], None], admitted: Callable[[], None]
    ) -> None:
        """Serve a connection until it ends; calls `admitted` once it belongs to a worker of this
        run, and `abort` to cut it off."""


class Gate:
    """Passes the connections of a listening socket to a handler; aiohttp's errors go to `log`."""

    def __init__(
        self,
        listener: socket.socket,
        context: ssl.SSLContext,
        handler: ConnectionHandler,
        log: logging.Logger,
    ) -> None:
        self._listener = listener
        self._context = context
        self._handler = handler
        self._handshakes = asyncio.Semaphore(MAX_HANDSHAKES)
        # Speaks HTTP on each connection until it is upgraded to a WebSocket.
        self._http = web.Server(self._serve, access_log=None, logger=log, lingering_time=0)
        # When connections that have the key, but have not said hello, are cut off.
        self._deadlines: dict[asyncio.BaseTransport, asyncio.TimerHandle] = {}

    async def accept(self) -> None:
        """Accept connections until cancelled."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as handshakes:
            while True:
                # At the limit no more are accepted, but none in mid-handshake is turned away.
                await self._handshakes.acquire()
                # In a flood there is always another one to accept: let other tasks run first.
                await asyncio.sleep(0)
                try:
                    accepted, _ = await loop.sock_accept(self._listener)
                except OSError:
                    # Out of descriptors, or the peer was gone before it was accepted.
                    self._handshakes.release()
                    await asyncio.sleep(ACCEPT_DELAY_S)
                    continue
                handshakes.create_task(self._shake_hands(accepted))

    async def _shake_hands(self, accepted: socket.socket) -> None:
        """Do the TLS handshake, in which both sides show the key; close the connection if not."""
        loop = asyncio.get_running_loop()
        try:
            try:
                configure(accepted)
            except OSError:
                accepted.close()
                raise
            # From here on the transport closes the socket.
            transport, _ = await loop.connect_accepted_socket(
                self._http,
                accepted,
                ssl=self._context,
                ssl_handshake_timeout=HANDSHAKE_S,
                ssl_shutdown_timeout=CLOSE_TIMEOUT_S,
            )
        except OSError:
            # A peer without the key, or one that has gone away: the run is not affected.
            return
        finally:
            self._handshakes.release()
        self._deadlines[transport] = loop.call_later(HELLO_TIMEOUT_S, self._cut_off, transport)

    def _cut_off(self, transport: asyncio.Transport) -> None:
        self._deadlines.pop(transport, None)
        transport.abort()

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """Serve a connection until it ends."""
        websocket = web.WebSocketResponse(
            heartbeat=HEARTBEAT_S, max_msg_size=MAX_FRAME, compress=False, timeout=CLOSE_TIMEOUT_S
        )
        transport = request.transport
        try:
            is_websocket = bool(websocket.can_prepare(request))
        except ValueError:
            # aiohttp fails on headers that are not valid text.
            is_websocket = False
        if transport is None or not is_websocket:
            response = web.Response(status=400)
            response.force_close()
            return response

        def admitted() -> None:
            if (deadline := self._deadlines.pop(transport, None)) is not None:
                deadline.cancel()

        try:
            # The peer may go away before it is admitted.
            with suppress(ConnectionError):
                await websocket.prepare(request)
                await self._handler.serve(Wire(websocket, parse_worker), transport.abort, admitted)
        finally:
            admitted()
            transport.abort()
        return websocket

    async def close(self) -> None:
        """Cut off all connections."""
        for deadline in self._deadlines.values():
            deadline.cancel()
        await self._http.shutdown(CLOSE_TIMEOUT_S)
