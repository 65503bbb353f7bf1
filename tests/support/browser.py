"""The page of `predict view` in a Chromium without a window."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any, TypeVar

import pytest

from blockwise_predict.view.app import Page
from blockwise_predict.view.chromium import NAMES, Tab, open_tab
from blockwise_predict.view.screenshot import wait_until_ready
from blockwise_predict.view.server import Address, served

T = TypeVar("T")
# How long a page may take to be complete, in seconds, on the slowest machine.
PATIENCE_S = 120.0


class Browser:
    """A tab, and pages served to it, on a thread of their own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._tab: Tab
        self._stack = AsyncExitStack()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something on that thread, and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)

    def start(self, width: int, height: int) -> None:
        """Start Chromium."""
        self._tab = self.run(self._stack.enter_async_context(open_tab(width, height)))

    def stop(self) -> None:
        """End Chromium and the thread."""
        self.run(self._stack.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @contextmanager
    def showing(self, page: Page, *, ready: bool = True) -> Iterator[str]:
        """Show a page, and wait until all that is in view is there; gives its URL."""
        stack = AsyncExitStack()

        async def begin() -> str:
            await stack.enter_async_context(page.running())
            url = await stack.enter_async_context(served(page.site, Address()))
            self._tab.errors.clear()
            await self._tab.call("Page.navigate", url=f"{url}/")
            if ready:
                await wait_until_ready(self._tab, PATIENCE_S)
            return url

        async def end() -> None:
            await self._tab.call("Page.navigate", url="about:blank")
            await stack.aclose()

        try:
            yield self.run(begin())
        finally:
            self.run(end())

    def evaluate(self, expression: str) -> Any:
        """The value of JavaScript in the page."""
        return self.run(self._tab.evaluate(expression))

    def wait(self) -> None:
        """Wait until all that is in view is there."""
        self.run(wait_until_ready(self._tab, PATIENCE_S))

    def values_at(self, layer: str, *positions: tuple[float, float, float]) -> list[Any]:
        """What neuroglancer says of a layer at positions (nm, x y z), as under the cursor."""
        return self.evaluate(
            f"""(() => {{
              const found = neuroglancer.layerManager.getLayerByName({json.dumps(layer)}).layer;
              return {json.dumps(positions)}.map((position) => {{
                for (const part of found.renderLayers) {{
                  const value = part.getValueAt?.(Float32Array.from(position));
                  if (value !== undefined && value !== null)
                    return Array.isArray(value) ? value.map(Number) : Number(value);
                }}
                return null;
              }});
            }})()"""
        )

    @property
    def errors(self) -> list[str]:
        """What went wrong in the page."""
        messages = "#neuroglancer-status-container li, #problem:not([hidden])"
        shown = self.evaluate(
            "[document, document.getElementById('viewer').contentDocument].flatMap((part) => "
            f"[...part.querySelectorAll({json.dumps(messages)})])"
            ".filter((e) => e.offsetParent !== null).map((e) => e.textContent)"
        )
        return [*self._tab.errors, *shown]


@contextmanager
def browser(width: int = 900, height: int = 700) -> Iterator[Browser]:
    """A browser with a tab of a size; skips the test where there is no Chromium."""
    if not any(map(shutil.which, NAMES)):
        pytest.skip("needs Chromium (Debian: apt-get install chromium)")
    started = Browser()
    try:
        started.start(width, height)
        yield started
    finally:
        started.stop()
