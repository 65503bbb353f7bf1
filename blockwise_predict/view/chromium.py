"""A headless Chromium with one tab, for screenshots.

It is driven over two pipes, so that no port is open to others on this machine:
https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import asyncio
import base64
import fcntl
import itertools
import json
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from blockwise_predict.errors import ConfigError, RunFailedError
from blockwise_predict.io.kvstore import Json

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
OPTIONS = (
    # Only our own page is opened, and many machines have nothing to make a sandbox with.
    *("--headless=new", "--no-sandbox", "--no-first-run", "--hide-scrollbars"),
    # No request to anywhere but this machine.
    *("--disable-quic", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--disable-default-apps", "--disable-extensions"),
    # WebGL computed by the processor.
    *("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"),
    # Containers have a small /dev/shm.
    "--disable-dev-shm-usage",
)
# Chromium reads commands from file descriptor 3 and answers on 4.
_LAUNCH = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); "
    "os.execv(sys.argv[3], sys.argv[3:])"
)
_START_S = 60.0
_MAX_MESSAGE_BYTES = 256 << 20


def find_chromium() -> str:
    """The path of Chromium or Chrome. Raises ConfigError if there is none."""
    for name in NAMES:
        if found := shutil.which(name):
            return found
    raise ConfigError(
        "--screenshot needs Chromium or Chrome, and none of "
        f"{', '.join(NAMES)} is on PATH. Install one, for example apt-get install chromium; or "
        "open the page in a browser of yours, without --screenshot."
    )


class Tab:
    """The tab: `errors` are those that its page has logged or thrown."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.errors: list[str] = []
        self._reader, self._writer = reader, writer
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Json]] = {}
        self._session: str | None = None

    async def call(self, method: str, **parameters: Any) -> Json:
        """A command of DevTools, and what it returns. Raises RunFailedError if it fails."""
        number = next(self._numbers)
        session = {} if self._session is None else {"sessionId": self._session}
        message = {"id": number, "method": method, "params": parameters, **session}
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        self._writer.write(json.dumps(message).encode() + b"\0")
        found = await answer
        if "error" in found:
            raise RunFailedError(f"Chromium: {method}: {found['error'].get('message')}")
        result: Json = found["result"]
        return result

    async def evaluate(self, expression: str) -> Any:
        """The value of JavaScript in the page. Raises RunFailedError if it throws."""
        found = await self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if thrown := found.get("exceptionDetails"):
            raise RunFailedError(f"the page: {_thrown(thrown)}")
        return found["result"].get("value")

    async def screenshot(self) -> bytes:
        """The page as PNG."""
        found = await self.call("Page.captureScreenshot", format="png")
        return base64.b64decode(found["data"])

    async def attach(self, width: int, height: int) -> None:
        """Use the tab that Chromium has opened, as a page of a size in pixels."""
        targets = (await self.call("Target.getTargets"))["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        attached = await self.call("Target.attachToTarget", targetId=page, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            await self.call(f"{domain}.enable")
        await self.resize(width, height)

    async def resize(self, width: int, height: int) -> None:
        """Show the page in another size, in pixels."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            **{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
        )

    async def listen(self) -> None:
        """Take what Chromium sends, until it ends."""
        with suppress(asyncio.IncompleteReadError):
            while True:
                self._take(json.loads((await self._reader.readuntil(b"\0"))[:-1]))
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(RunFailedError("Chromium has ended"))

    def _take(self, message: Json) -> None:
        if "id" in message:
            answer = self._answers.pop(message["id"])
            if not answer.done():
                answer.set_result(message)
            return
        parameters = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            self.errors.append(_thrown(parameters["exceptionDetails"]))
        elif message.get("method") == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.errors.append(f"{parameters['entry']['text']} {parameters['entry'].get('url')}")


def _thrown(details: Json) -> str:
    exception = details.get("exception", {})
    return str(exception.get("description") or details.get("text"))


@asynccontextmanager
async def open_tab(width: int, height: int) -> AsyncIterator[Tab]:
    """A tab of a size in pixels.

    Raises ConfigError without Chromium, and RunFailedError if it does not start.
    """
    program = find_chromium()
    with tempfile.TemporaryDirectory(prefix="predict-view-", ignore_cleanup_errors=True) as folder:
        profile = Path(folder)
        with (profile / "log").open("wb") as log:
            words = [program, *OPTIONS, f"--user-data-dir={profile / 'profile'}"]
            words += ["--remote-debugging-pipe", f"--window-size={width},{height}", "about:blank"]
            async with _process(words, log.fileno()) as tab:
                try:
                    async with asyncio.timeout(_START_S):
                        await tab.attach(width, height)
                except (TimeoutError, RunFailedError):
                    last = (profile / "log").read_text(errors="replace").strip()[-400:]
                    raise RunFailedError(f"{program} does not start: {last}") from None
                yield tab


@asynccontextmanager
async def _process(words: list[str], log: int) -> AsyncIterator[Tab]:
    """Chromium, and the pipes to and from it."""
    commands, ours = os.pipe()
    answers, theirs = os.pipe()
    # Beyond those that it is to find them as.
    handed = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (commands, theirs)]
    for end in (commands, theirs):
        os.close(end)
    launch = [sys.executable, "-c", _LAUNCH, *map(str, handed), *words]
    process = await asyncio.create_subprocess_exec(
        *launch, pass_fds=handed, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
    )
    for end in handed:
        os.close(end)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_MAX_MESSAGE_BYTES)
    with open(answers, "rb", 0) as source, open(ours, "wb", 0) as sink:
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), source)
        transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, sink)
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        tab = Tab(reader, writer)
        listening = asyncio.create_task(tab.listen())
        try:
            yield tab
        finally:
            with suppress(ProcessLookupError):
                process.terminate()
            await process.wait()
            writer.close()
            await listening
