"""Sockets, as scheduler and workers set them up."""

from __future__ import annotations

import contextlib
import ipaddress
import resource
import socket
from collections.abc import Iterator

import psutil

# What was sent and not acknowledged for so long says that the other end cannot be reached
# (milliseconds; Linux, tcp(7)).
UNREACHABLE_MS = 30_000


def listen(host: str, port: int) -> socket.socket:
    """A listening socket, for asyncio. Raises OSError if that is not possible."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=1024)
    listener.setblocking(False)
    return listener


def addresses_at(host: str) -> Iterator[str]:
    """At which addresses others reach a socket of this machine that listens on `host`."""
    if host not in ("0.0.0.0", "::"):
        # What it stands for was found when the socket was made.
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        if not ipaddress.ip_address(found[0][4][0]).is_loopback:
            yield host
        return
    name = socket.getfqdn()
    if not name.startswith("localhost"):
        yield name
    for addresses in psutil.net_if_addrs().values():
        for address in addresses:
            if address.family == socket.AF_INET and not address.address.startswith("127."):
                yield address.address


def keep_watch(connection: socket.socket) -> None:
    """Have the system end a connection whose other end cannot be reached, and send at once."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREACHABLE_MS)


def allow_many_connections() -> None:
    """Each worker's connection takes a file descriptor; take as many as this user may."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
