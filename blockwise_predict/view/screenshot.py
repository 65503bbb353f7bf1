"""`predict view --screenshot`: the page as it looks once everything on it is there."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from blockwise_predict.errors import ConfigError, RunFailedError
from blockwise_predict.view.chromium import Tab, find_chromium, open_tab

SIZE = (1280, 800)
# Chunks may have to be computed first.
PATIENCE_S = 600.0
_POLL_S = 0.1
# As neuroglancer does for its own screenshots: what has just arrived may ask for more.
_TWICE = 3

READY = "Boolean(window.neuroglancer?.isReady())"


async def wait_until_ready(tab: Tab, patience_s: float = PATIENCE_S) -> None:
    """Wait until all that is in view is shown. Raises RunFailedError if that takes too long."""
    deadline = time.monotonic() + patience_s
    seen = 0
    while seen < _TWICE:
        if time.monotonic() > deadline:
            problems = "; ".join(tab.errors[:3]) or "chunks are still missing"
            raise RunFailedError(f"the page is not complete after {patience_s:.0f} s: {problems}")
        seen = seen + 1 if await tab.evaluate(READY) else 0
        await asyncio.sleep(_POLL_S)


async def take_screenshot(url: str, file: Path) -> None:
    """Write the page at a URL to a PNG file. Raises PredictError if it cannot be taken."""
    async with open_tab(*SIZE) as tab:
        await tab.call("Page.navigate", url=url)
        await wait_until_ready(tab)
        image = await tab.screenshot()
    try:
        await asyncio.to_thread(file.write_bytes, image)
    except OSError as error:
        raise ConfigError(f"--screenshot {file}: cannot be written ({error.strerror}).") from None


def check_screenshot(file: Path) -> None:
    """Raise ConfigError unless there is a Chromium, and a screenshot can have this name."""
    find_chromium()
    if file.suffix.lower() != ".png":
        raise ConfigError(f"--screenshot {file}: the name of a PNG file ends in .png.")
    if not file.absolute().parent.is_dir():
        raise ConfigError(f"--screenshot {file}: there is no folder {file.absolute().parent}.")
