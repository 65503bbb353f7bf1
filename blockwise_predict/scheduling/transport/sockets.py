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
    both = host == "::" and socket.has_dualstack_ipv6()
    listener = socket.create_server((host, port), family=family, backlog=1024, dualstack_ipv6=both)
    listener.setblocking(False)
    return listener


def reachable_at(host: str) -> tuple[str, tuple[str, ...]]:
    """At which address this machine reaches a socket of its own that listens on `host`, and at
    which ones others do."""
    if host == "0.0.0.0":
        return "127.0.0.1", tuple(_own_addresses(socket.AF_INET))
    if host == "::":
        return "::1", tuple(_own_addresses(socket.AF_INET, socket.AF_INET6))
    # What it stands for was found when the socket was made.
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0]
    return str(found), () if ipaddress.ip_address(found).is_loopback else (host,)


def _own_addresses(*families: socket.AddressFamily) -> Iterator[str]:
    name = socket.getfqdn()
    if not name.startswith("localhost"):
        yield name
    for addresses in psutil.net_if_addrs().values():
        # Less those with a scope (`fe80::1%eth0`), which hold on one network only.
        for address in (a.address for a in addresses if a.family in families):
            if "%" not in address and not ipaddress.ip_address(address).is_loopback:
                yield address


def keep_watch(connection: socket.socket) -> None:
    """Have the system end a connection whose other end cannot be reached, and send at once."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREACHABLE_MS)


def allow_many_connections() -> None:
    """Each worker's connection takes a file descriptor; take as many as this user may."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
