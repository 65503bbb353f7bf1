"""How a worker reaches the scheduler."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aiohttp
from yarl import URL

from blockwise_predict.errors import RunStateError
from blockwise_predict.records.rundir import Address
from blockwise_predict.scheduling.transport.messages import (
    GREETING_S,
    FromScheduler,
    Hello,
    Refused,
    Welcome,
    parse_scheduler,
)
from blockwise_predict.scheduling.transport.sockets import keep_watch
from blockwise_predict.scheduling.transport.tls import client_context
from blockwise_predict.scheduling.transport.wire import GOODBYE_S, HEARTBEAT_S, MAX_FRAME, Wire

# Seconds until an address that does not answer is given up. Where many come at once, a scheduler
# takes that long to come to the last one.
CONNECT_S = 15.0


class NotThereError(Exception):
    """No scheduler of this run answers, now."""


class NoSchedulerError(NotThereError):
    """There is no scheduler of this run, now."""


@asynccontextmanager
async def connected(address: Address) -> AsyncIterator[Wire[FromScheduler]]:
    """A connection to the first of the scheduler's addresses that shows the run's key.

    Raises NotThereError if none does, and RunStateError if the key is none.
    """
    try:
        context = client_context(address.key)
    except ssl.SSLError as error:
        raise RunStateError(f"the key in server.json is damaged ({error}).") from None
    except OSError as error:
        raise NotThereError(f"the key cannot be put into a temporary file: {error}.") from None
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
        websocket = await _connect(session, address)
        keep_watch(websocket.get_extra_info("socket"))
        yield Wire(websocket, parse_scheduler)


async def _connect(
    session: aiohttp.ClientSession, address: Address
) -> aiohttp.ClientWebSocketResponse:
    troubles = []
    for host in address.reachable_at(socket.gethostname()):
        url = URL.build(scheme="wss", host=host, port=address.port, path="/")
        try:
            async with asyncio.timeout(CONNECT_S):
                return await session.ws_connect(
                    url,
                    heartbeat=HEARTBEAT_S,
                    max_msg_size=MAX_FRAME,
                    timeout=aiohttp.ClientWSTimeout(ws_close=GOODBYE_S),
                )
        except (aiohttp.ClientError, OSError) as error:
            troubles.append(f"{host}: {_why(error)}")
    only = ""
    if not address.hosts:
        only = " It listens on its own machine only; predict run --listen ADDRESS opens it."
    raise NotThereError(
        f"no scheduler answers at port {address.port} of {address.host} "
        f"({'; '.join(troubles)}).{only}"
    )


async def greet(
    address: Address, wire: Wire[FromScheduler], hello: Hello
) -> tuple[Welcome, list[FromScheduler]]:
    """Introduce a worker; returns its welcome, and what else the scheduler says at once.

    Raises RunStateError if it is refused, and NotThereError without an answer.
    """
    where = f"the scheduler at {address.host} port {address.port}"
    wire.send(hello)
    # Who says nothing is like one who says something else.
    with suppress(ConnectionError, TimeoutError):
        async with asyncio.timeout(GREETING_S):
            await wire.flush()
            match await wire.receive():
                case [Welcome() as welcome, *more]:
                    return welcome, more
                case [Refused(why=why), *_]:
                    raise RunStateError(f"{where} refused this worker: {why}.")
    raise NotThereError(f"{where} does not answer, or is not this run's any more.")


def _why(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return "it does not have the run's key"
    if isinstance(error, TimeoutError):
        return f"no answer within {CONNECT_S:g} s"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
