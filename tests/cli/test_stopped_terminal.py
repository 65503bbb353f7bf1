"""Messages for a terminal or a reader that takes none at the time."""

from __future__ import annotations

import os
import pty
import termios
import threading
from collections.abc import Iterator

import pytest

from blockwise_predict.cli import console
from blockwise_predict.cli.console import Messages, drain_messages


@pytest.fixture
def stderr() -> Iterator[int]:
    """A copy of stderr's descriptor, which is restored at the end."""
    kept = os.dup(2)
    yield kept
    os.dup2(kept, 2)
    os.close(kept)


@pytest.mark.usefixtures("stderr")
@pytest.mark.parametrize("blocking", [True, False])
def test_a_reader_that_pauses_holds_nothing_up(
    blocking: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "MAX_KEPT", 200_000)
    ours, theirs = os.pipe()
    os.set_blocking(theirs, blocking)
    os.dup2(theirs, 2)
    os.close(theirs)
    messages = Messages()
    # More than the pipe holds and is kept.
    for number in range(400):
        messages.line(f"{number} " + "x" * 1000)
    got = bytearray()
    reading = threading.Thread(target=lambda: got.extend(_all_of(ours)), daemon=True)
    reading.start()
    drain_messages()
    messages.line("last")
    os.close(messages.console.file.fileno())
    os.close(2)
    reading.join(10)
    lines = got.decode().splitlines()
    assert lines[0].startswith("0 x")
    assert lines[-1] == "last"
    assert lines[-2].endswith(" messages could not be shown)")


def _all_of(descriptor: int) -> bytes:
    parts = iter(lambda: os.read(descriptor, 1 << 16), b"")
    return b"".join(parts)


@pytest.mark.usefixtures("stderr")
def test_a_stopped_terminal_holds_nothing_up() -> None:
    ours, theirs = pty.openpty()
    os.dup2(theirs, 2)
    messages = Messages()
    termios.tcflow(theirs, termios.TCOOFF)
    messages.warn("while it is stopped")
    termios.tcflow(theirs, termios.TCOON)
    drain_messages()
    assert b"while it is stopped" in os.read(ours, 1000)
