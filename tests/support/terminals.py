"""A terminal of a given size, and what is on its screen."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import termios
from collections.abc import Iterator
from contextlib import contextmanager

import pyte


class Terminal:
    """A pseudo-terminal, whose `device` programs write to; `sent` is all that they wrote."""

    def __init__(self, columns: int, lines: int) -> None:
        self._ours, self._theirs = pty.openpty()
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.device = os.ttyname(self._theirs)
        self.sent = b""
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)

    def read(self, seconds: float = 0.1) -> list[str]:
        """The lines on the screen, after waiting for output for so long."""
        while select.select([self._ours], [], [], seconds)[0]:
            data = os.read(self._ours, 1 << 16)
            self.sent += data
            self._stream.feed(data)
            seconds = 0
        return [line.rstrip() for line in self._screen.display]

    def close(self) -> None:
        os.close(self._ours)
        os.close(self._theirs)


@contextmanager
def terminal(columns: int, lines: int) -> Iterator[Terminal]:
    """A terminal until the context ends."""
    made = Terminal(columns, lines)
    try:
        yield made
    finally:
        made.close()
