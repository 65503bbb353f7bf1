"""How a worker reaches the scheduler."""

from __future__ import annotations

import asyncio
import socket
import ssl

from pydantic import ValidationError

from blockwise_predict.errors import RunStateError
from blockwise_predict.records.rundir import Address
from blockwise_predict.scheduling.protocol import (
    GREETING_S,
    MAX_LINE,
    FromScheduler,
    Hello,
    Refused,
    Welcome,
    parse_scheduler,
)
from blockwise_predict.scheduling.sockets import keep_watch
from blockwise_predict.scheduling.tls import client_context

# An address that does not answer is given up after so long (seconds).
CONNECT_S = 5.0


class NotThereError(Exception):
    """No scheduler of this run answers, now."""


async def connect(address: Address) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to the first of the scheduler's addresses that shows the run's key."""
    troubles = []
    try:
        context = client_context(address.key)
    except ssl.SSLError as error:
        raise RunStateError(f"the key in server.json is damaged ({error}).") from None
    except OSError as error:
        raise NotThereError(f"the key cannot be put into a temporary file: {error}.") from None
    for host in address.reachable_at(socket.gethostname()):
        opening = asyncio.open_connection(host, address.port, ssl=context, limit=MAX_LINE)
        try:
            reader, writer = await asyncio.wait_for(opening, CONNECT_S)
        except (OSError, TimeoutError) as error:
            troubles.append(f"{host}: {_why(error)}")
            continue
        keep_watch(writer.get_extra_info("socket"))
        return reader, writer
    only = ""
    if not address.hosts:
        only = " It listens on its own machine only; predict run --listen ADDRESS opens it."
    raise NotThereError(
        f"no scheduler answers at port {address.port} of {address.host} "
        f"({'; '.join(troubles)}).{only}"
    )


async def greet(
    address: Address, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, hello: Hello
) -> int:
    """Introduce a worker; returns its number. Raises RunStateError if it is refused."""
    writer.write(hello.line())
    try:
        answer = await asyncio.wait_for(read(reader), GREETING_S)
    except TimeoutError:
        answer = None
    if isinstance(answer, Welcome):
        return answer.number
    writer.close()
    where = f"the scheduler at {address.host} port {address.port}"
    if isinstance(answer, Refused):
        raise RunStateError(f"{where} refused this worker: {answer.why}.")
    raise NotThereError(f"{where} does not answer, or is not this run's any more.")


def _why(error: OSError | TimeoutError) -> str:
    if isinstance(error, ssl.SSLError):
        return "it does not have the run's key"
    if isinstance(error, TimeoutError):
        return f"no answer within {CONNECT_S:g} s"
    return error.strerror or str(error)


async def read(reader: asyncio.StreamReader) -> FromScheduler | None:
    """The next message; None at the connection's end."""
    try:
        line = await reader.readline()
        return parse_scheduler.validate_json(line) if line.endswith(b"\n") else None
    except (OSError, ValidationError, ValueError):
        return None
