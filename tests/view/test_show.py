"""A page is served until a signal asks for the end, whatever is still being read."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import urllib.request
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest

from blockwise_predict.view.app import Page
from blockwise_predict.view.scene import Scene
from blockwise_predict.view.served import ServedImage, ServedLevel, Voxels
from blockwise_predict.view.server import Address
from blockwise_predict.view.show import show_page

# How long storage does not answer, in seconds.
STALL_S = 15.0


async def zeros(*_: Sequence[int]) -> Voxels:
    return np.zeros((1, 4, 4, 4), np.uint8)


def page(read: Any = zeros, **more: Any) -> Page:
    level = ServedLevel((4, 4, 4), (4, 4, 4), (Fraction(4),) * 3, read)
    begin, end = (Fraction(0),) * 3, (Fraction(16),) * 3
    image = ServedImage("raw", (level,), begin, None, np.dtype(np.uint8), ("z", "y", "x"))
    return Page(Scene("raw", image, [], begin, end, lambda: {"facts": []}), [image], **more)


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_the_end_does_not_wait_for_storage_that_does_not_answer() -> None:
    go, answered = threading.Event(), threading.Event()

    def stall() -> None:
        interrupt()
        go.wait(STALL_S)
        answered.set()

    async def read(*_: Sequence[int]) -> Voxels:
        await asyncio.to_thread(stall)
        return await zeros()

    def ask(url: str) -> None:
        with suppress(OSError):
            urllib.request.urlopen(f"{url}data/raw/s0/c/0/0/0", timeout=60).close()

    clients: list[threading.Thread] = []

    def tell(line: str) -> None:
        if line.startswith("  http"):
            clients.append(threading.Thread(target=ask, args=(line.strip(),)))
            clients[-1].start()

    show_page(page(read), Address(), tell=tell, browser=False)
    assert clients
    assert not answered.is_set()
    go.set()
    clients[0].join()


def test_a_second_signal_exits_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    codes: list[int] = []
    monkeypatch.setattr("blockwise_predict.view.show.os._exit", codes.append)

    @asynccontextmanager
    async def slow_to_end() -> AsyncIterator[None]:
        asyncio.get_running_loop().call_soon(interrupt)
        yield
        interrupt()
        await asyncio.sleep(0.2)

    show_page(page(running=slow_to_end), Address(), tell=lambda _: None, browser=False)
    assert codes == [130]


def test_the_url_is_not_on_the_command_line_of_the_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    files: list[Path] = []

    def open_in_browser(address: str) -> None:
        assert urlsplit(address).scheme == "file"
        files.append(Path(unquote(urlsplit(address).path)))
        url = told[0].strip()
        assert f'content="0; url={url}"' in files[0].read_text()
        modes = [path.stat().st_mode & 0o777 for path in (files[0], files[0].parent)]
        assert modes == [0o600, 0o700]
        interrupt()

    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr("webbrowser.open", open_in_browser)
    show_page(page(), Address(), tell=told.append, browser=True)
    assert not files[0].parent.exists()
