"""A cable between workers and their scheduler that can be cut, or carry nothing for a while."""

from __future__ import annotations

import contextlib
import os
import random
import selectors
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from blockwise_predict.records.address import Address

# Closing with this sends RST: the connection is gone, and the other end is told nothing else.
AT_ONCE = struct.pack("ii", 1, 0)


class Cable:
    """Passes on what comes to its port to the `target` port on this machine, until it is cut."""

    def __init__(self, target: int = 0) -> None:
        self.target = target
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port: int = self._listener.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._lock = threading.Lock()
        self._dead = self._garble = False
        self._ended = False
        self._thread = threading.Thread(target=self._pass_on, daemon=True)
        self._thread.start()

    def cut(self, chance: random.Random | None = None) -> bool:
        """End all connections, or one by `chance`; new ones are passed on. False if there is
        none."""
        with self._lock:
            keys = self._selector.get_map().values()
            ends = [key.fileobj for key in keys if key.fileobj is not self._listener]
            if ends and chance is not None:
                one = chance.choice(ends)
                ends = [one, self._selector.get_key(one).data]
            for end in ends:
                self._close(end)
            return bool(ends)

    def garble(self) -> bool:
        """Put rubbish before what is carried next."""
        self._garble = True
        return True

    def swallow(self, swallow: bool) -> None:
        """Carry nothing, and accept nobody, as long as this holds; connections stay."""
        with self._lock:
            self._dead = swallow

    def close(self) -> None:
        """Remove it."""
        self._ended = True
        self._thread.join()
        self.cut()
        self._listener.close()

    def _close(self, connection: object) -> None:
        assert isinstance(connection, socket.socket)
        if connection.fileno() < 0:
            return
        self._selector.unregister(connection)
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        connection.close()

    def _pass_on(self) -> None:
        while not self._ended:
            with self._lock:
                for key, _ in self._selector.select(0.01) if not self._dead else ():
                    if key.fileobj is self._listener:
                        self._accept()
                    elif key.fileobj.fileno() >= 0:
                        # It was not closed with another one's end, just now.
                        self._carry(key.fileobj, key.data)
            if self._dead:
                threading.Event().wait(0.01)

    def _accept(self) -> None:
        near, _ = self._listener.accept()
        try:
            far = socket.create_connection(("127.0.0.1", self.target))
        except OSError:
            near.close()
            return
        self._selector.register(near, selectors.EVENT_READ, far)
        self._selector.register(far, selectors.EVENT_READ, near)

    def _carry(self, source: object, target: socket.socket) -> None:
        assert isinstance(source, socket.socket)
        try:
            data = source.recv(1 << 16)
            if data and self._garble:
                self._garble, data = False, os.urandom(50) + data
            target.sendall(data)
        except OSError:
            data = b""
        if not data:
            self._close(source)
            self._close(target)


@contextmanager
def cable(address: Address) -> Iterator[tuple[Cable, Address]]:
    """A cable to a scheduler, and the address at its near end."""
    laid = Cable(address.port)
    try:
        yield laid, replace(address, port=laid.port)
    finally:
        laid.close()
