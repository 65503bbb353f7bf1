"""Socket setup: where the scheduler listens, under which addresses, with which options."""

from __future__ import annotations

import contextlib
import ipaddress
import resource
import socket
from collections.abc import Iterator

import psutil

# A connection ends when data sent is not acknowledged for this long (milliseconds; Linux, tcp(7)).
UNREACHABLE_MS = 30_000


def listen(host: str, port: int) -> socket.socket:
    """A non-blocking listening socket. Raises OSError if this machine cannot listen there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    both = host == "::" and socket.has_dualstack_ipv6()
    listener = socket.create_server((host, port), family=family, backlog=1024, dualstack_ipv6=both)
    listener.setblocking(False)
    return listener


def reachable_at(host: str) -> tuple[str, tuple[str, ...]]:
    """The address at which this machine reaches its own socket that listens on `host`, and those at
    which other machines do."""
    if host == "0.0.0.0":
        return "127.0.0.1", tuple(_own_addresses(socket.AF_INET))
    if host == "::":
        return "::1", tuple(_own_addresses(socket.AF_INET, socket.AF_INET6))
    # This cannot fail: the name was resolved when the socket was made.
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0]
    return str(found), () if ipaddress.ip_address(found).is_loopback else (host,)


def _own_addresses(*families: socket.AddressFamily) -> Iterator[str]:
    name = socket.getfqdn()
    if not name.startswith("localhost"):
        yield name
    for addresses in psutil.net_if_addrs().values():
        # Except those with a scope (`fe80::1%eth0`), which are valid on one network only.
        for address in (a.address for a in addresses if a.family in families):
            if "%" not in address and not ipaddress.ip_address(address).is_loopback:
                yield address


def configure(connection: socket.socket) -> None:
    """Disable send delays, and have the kernel end a connection whose peer is unreachable."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREACHABLE_MS)


def allow_many_connections() -> None:
    """Raise the limit of open files as far as allowed: each worker's connection takes one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
