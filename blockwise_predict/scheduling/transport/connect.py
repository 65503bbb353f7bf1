"""The worker's side of a connection: reaches the scheduler, and introduces the worker."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aiohttp
from yarl import URL

from blockwise_predict.errors import RunStateError
from blockwise_predict.records.address import Address
from blockwise_predict.scheduling.transport.messages import (
    HELLO_TIMEOUT_S,
    FromScheduler,
    Hello,
    Refused,
    Welcome,
    parse_scheduler,
)
from blockwise_predict.scheduling.transport.sockets import configure
from blockwise_predict.scheduling.transport.tls import client_context
from blockwise_predict.scheduling.transport.wire import (
    CLOSE_TIMEOUT_S,
    HEARTBEAT_S,
    MAX_FRAME,
    Wire,
)

# Timeout for one address (seconds). When many workers connect at the same time, the scheduler may
# need that long to get to the last one.
CONNECT_S = 15.0


class UnreachableError(Exception):
    """No scheduler of this run can be reached at the moment."""


class NoSchedulerError(UnreachableError):
    """No scheduler of this run is running at the moment."""


@asynccontextmanager
async def connected(address: Address) -> AsyncIterator[Wire[FromScheduler]]:
    """A connection to the first of the scheduler's addresses whose peer has the run's key.

    Raises UnreachableError if there is none, and RunStateError if the key is damaged.
    """
    try:
        context = client_context(address.key)
    except ssl.SSLError as error:
        raise RunStateError(f"the key in server.json is damaged ({error}).") from None
    except OSError as error:
        raise UnreachableError(f"the key cannot be written to a temporary file: {error}.") from None
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
        websocket = await _connect(session, address)
        configure(websocket.get_extra_info("socket"))
        yield Wire(websocket, parse_scheduler)


async def _connect(
    session: aiohttp.ClientSession, address: Address
) -> aiohttp.ClientWebSocketResponse:
    errors = []
    for host in address.reachable_at(socket.gethostname()):
        url = URL.build(scheme="wss", host=host, port=address.port, path="/")
        try:
            async with asyncio.timeout(CONNECT_S):
                return await session.ws_connect(
                    url,
                    heartbeat=HEARTBEAT_S,
                    max_msg_size=MAX_FRAME,
                    timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_TIMEOUT_S),
                )
        except (aiohttp.ClientError, OSError) as error:
            errors.append(f"{host}: {_reason(error)}")
    only = ""
    if not address.hosts:
        only = " It listens on its own machine only; predict run --listen ADDRESS opens it."
    raise UnreachableError(
        f"no scheduler answers at port {address.port} of {address.host} "
        f"({'; '.join(errors)}).{only}"
    )


async def greet(
    address: Address, wire: Wire[FromScheduler], hello: Hello
) -> tuple[Welcome, list[FromScheduler]]:
    """Introduce a worker; returns the scheduler's welcome, and any messages sent along with it.

    Raises RunStateError if the worker is refused, and UnreachableError without an answer.
    """
    where = f"the scheduler at {address.host} port {address.port}"
    wire.send(hello)
    # Silence is treated like any unexpected answer.
    with suppress(ConnectionError, TimeoutError):
        async with asyncio.timeout(HELLO_TIMEOUT_S):
            await wire.flush()
            match await wire.receive():
                case [Welcome() as welcome, *more]:
                    return welcome, more
                case [Refused(why=why), *_]:
                    raise RunStateError(f"{where} refused this worker: {why}.")
    raise UnreachableError(f"{where} does not answer, or no longer belongs to this run.")


def _reason(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return "it does not have the run's key"
    if isinstance(error, TimeoutError):
        return f"no answer within {CONNECT_S:g} s"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
