"""Running the server of `predict view` and `predict serve` until it is interrupted."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import (
    AbstractAsyncContextManager,
    ExitStack,
    asynccontextmanager,
    nullcontext,
    suppress,
)
from pathlib import Path

from blockwise_predict.view.app import Page
from blockwise_predict.view.opening import opened
from blockwise_predict.view.screenshot import take_screenshot
from blockwise_predict.view.served import ServedImage
from blockwise_predict.view.server import Address, Site, served

Tell = Callable[[str], None]
Running = Callable[[], AbstractAsyncContextManager[None]]

# The exit code of a command that was interrupted.
_INTERRUPTED = 130


def show_page(page: Page, address: Address, *, tell: Tell, browser: bool) -> None:
    """Serve a page until Ctrl-C, and open it in a browser where there is one.

    Raises ConfigError if the address cannot be listened at.
    """
    with ExitStack() as at_end:

        def ready(url: str) -> None:
            tell(f"  {url}/")
            _tell_how_to_end(address, url, tell)
            if browser and _has_display():
                at_end.enter_context(opened(f"{url}/"))

        asyncio.run(_serve(page.site, address, ready, page.running))


def serve_images(
    images: Sequence[ServedImage], address: Address, *, tell: Tell, running: Running = nullcontext
) -> None:
    """Serve images until Ctrl-C, with something `running` that they need.

    Raises ConfigError as `show_page` does.
    """

    def ready(url: str) -> None:
        for image in images:
            tell(f"  {url}/data/{image.name}/s0")
            if len(image.levels) > 1:
                tell(f"    and levels s1 to s{len(image.levels) - 1}")
        tell(
            "Each is a zarr 3 array, in an OME-NGFF group one level up. In neuroglancer, add "
            "|zarr3: to the group's URL."
        )
        _tell_how_to_end(address, url, tell)

    site = Site({image.name: image for image in images})
    asyncio.run(_serve(site, address, ready, running))


def save_screenshot(page: Page, file: Path) -> None:
    """Write the page as a PNG file, once everything on it is there.

    Raises ConfigError if there is no Chromium, RunFailedError if the page is never complete.
    """

    async def take() -> None:
        async with _threads(), page.running(), served(page.site, Address()) as url:
            await take_screenshot(f"{url}/", file)

    asyncio.run(take())


async def _serve(
    site: Site,
    address: Address,
    ready: Callable[[str], None],
    running: Running = nullcontext,
) -> None:
    """Serve until a signal asks for the end, with something `running`; a second one exits."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()

    def end() -> None:
        if ended.is_set():
            os._exit(_INTERRUPTED)
        ended.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Only the main thread has signals.
        with suppress(RuntimeError, ValueError):
            loop.add_signal_handler(number, end)
    async with _threads(), running(), served(site, address) as url:
        ready(url)
        await ended.wait()


@asynccontextmanager
async def _threads() -> AsyncIterator[None]:
    """Threads for `asyncio.to_thread` whose reads need not end: storage may not answer."""
    loop = asyncio.get_running_loop()
    threads = ThreadPoolExecutor()
    loop.set_default_executor(threads)
    try:
        yield
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        # asyncio.run waits for the threads of the default executor, of which this one has none.
        loop.set_default_executor(ThreadPoolExecutor())


def _tell_how_to_end(address: Address, url: str, tell: Tell) -> None:
    if "SSH_CONNECTION" in os.environ and address.host in ("127.0.0.1", "localhost"):
        port = url.split("/")[2].rpartition(":")[2]
        tell(
            f"On your own machine, ssh -L {port}:localhost:{port} {socket.gethostname()} makes "
            "this URL valid there."
        )
    tell("Whoever has the URL can see what is shown. Ctrl-C ends this.")


def _has_display() -> bool:
    """Whether a browser has a screen; without one, Python would start one in this terminal."""
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
