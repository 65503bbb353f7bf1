"""A page in a Chromium without a window, driven over its DevTools."""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.support.runs import until

_OPTIONS = (
    *("--headless=new", "--no-sandbox", "--no-first-run", "--disable-gpu", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-extensions"),
    *("--disable-sync", "--disable-dev-shm-usage", "--remote-debugging-port=0"),
)
PATIENCE_S = 60.0


class Tab:
    """An open page, and what the browser has complained of (`complaints`)."""

    def __init__(self, connection: ClientConnection) -> None:
        self.complaints: list[str] = []
        self._connection = connection
        self._numbers = itertools.count(1)
        self._events: list[dict[str, Any]] = []
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a method of the protocol."""
        number = next(self._numbers)
        self._connection.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while (message := self._receive()).get("id") != number:
            self._events.append(message)
        assert "error" not in message, message
        return dict(message["result"])

    def _receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self._connection.recv(PATIENCE_S))
        kind = message.get("method")
        if kind in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"):
            self.complaints.append(json.dumps(message["params"]))
        return message

    def open(self, file: Path) -> None:
        """Load a file, and wait until it is shown."""
        self._events.clear()
        self.call("Page.navigate", url=file.as_uri())
        loaded = "Page.loadEventFired"
        if not any(event.get("method") == loaded for event in self._events):
            while self._receive().get("method") != loaded:
                pass

    def resize(self, width: int, height: int) -> None:
        """Show the page in a window of this size (pixels)."""
        sizes = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": True}
        self.call("Emulation.setDeviceMetricsOverride", **sizes)

    def value(self, expression: str) -> Any:
        """The value of an expression on the page."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        return result["result"].get("value")

    def prefer(self, scheme: str) -> None:
        """Have the page shown `light` or `dark`."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def picture(self, box: tuple[int, int, int, int]) -> bytes:
        """A PNG of a part of the page: left, top, width and height (pixels)."""
        clip = {**dict(zip(("x", "y", "width", "height"), box, strict=True)), "scale": 1}
        taken = self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        return base64.b64decode(taken["data"])

    def pdf(self) -> bytes:
        """The page as it is printed."""
        printed = self.call("Page.printToPDF", preferCSSPageSize=True, printBackground=True)
        return base64.b64decode(printed["data"])


@contextmanager
def browser_tab(folder: Path) -> Iterator[Tab]:
    """An empty page; skips the test where there is no Chromium. `folder` is for what it writes."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs Chromium (Debian: apt-get install chromium)")
    profile = folder / "profile"
    command = [chromium, *_OPTIONS, f"--user-data-dir={profile}", "about:blank"]
    port = profile / "DevToolsActivePort"
    with (folder / "chromium.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            until(lambda: port.exists() and port.read_text().count("\n") >= 1)
            number, path = port.read_text().split("\n")[:2]
            with connect(f"ws://127.0.0.1:{number}{path}", max_size=None) as browser:
                browser.send(json.dumps({"id": 1, "method": "Target.getTargets"}))
                while "result" not in (answer := json.loads(browser.recv(PATIENCE_S))):
                    pass
            pages = answer["result"]["targetInfos"]
            target = next(one["targetId"] for one in pages if one["type"] == "page")
            page = f"ws://127.0.0.1:{number}/devtools/page/{target}"
            with connect(page, max_size=None) as connection:
                yield Tab(connection)
        finally:
            process.terminate()
            process.wait()
