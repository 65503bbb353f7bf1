"""The page of `predict view`: a scene, served together with its images."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass

from aiohttp import web

from blockwise_predict.view.client import CLIENT, neuroglancer_file, own_file
from blockwise_predict.view.layers import state_names
from blockwise_predict.view.scene import Scene
from blockwise_predict.view.served import ServedImage
from blockwise_predict.view.server import Handler, Site

_JSON = {"Cache-Control": "no-store"}


@dataclass(frozen=True)
class Page:
    """A scene, its images, and what has to run while they are served."""

    scene: Scene
    images: Sequence[ServedImage]
    running: Callable[[], AbstractAsyncContextManager[None]] = nullcontext

    @property
    def site(self) -> Site:
        """What the web server serves."""
        return Site({image.name: image for image in self.images}, _handlers(self.scene))


def _handlers(scene: Scene) -> dict[str, Handler]:
    return {
        "": own_file,
        "{file:page\\.(?:js|css)}": own_file,
        f"{CLIENT}/{{file:[^/]*}}": neuroglancer_file,
        "scene.json": _answer(scene.as_json()),
        "states/info": _answer(state_names()),
        "events": _events(scene),
        "command": _command(scene),
    }


def _answer(content: object) -> Handler:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.json_response(content, headers=_JSON)

    return answer


def _events(scene: Scene) -> Handler:
    status = _shared_status(scene)

    async def events(request: web.Request) -> web.StreamResponse:
        """What the bar shows, each time it changes, as an event stream."""
        response = web.StreamResponse(headers={**_JSON, "Content-Type": "text/event-stream"})
        await response.prepare(request)
        sent = ""
        while True:
            text = await status()
            if text != sent:
                await response.write(f"data: {text}\n\n".encode())
                sent = text
            await asyncio.sleep(scene.interval_s)

    return events


def _shared_status(scene: Scene) -> Callable[[], Awaitable[str]]:
    """What the bar shows, as JSON; found out once per interval for all pages that are open."""
    lock = asyncio.Lock()
    text, valid_until = "", 0.0

    async def status() -> str:
        nonlocal text, valid_until
        async with lock:
            # From when it was asked for, so that a page that asks alone always gets a new one.
            asked = time.monotonic()
            if asked >= valid_until:
                text = json.dumps(await asyncio.to_thread(scene.status))
                valid_until = asked + scene.interval_s
            return text

    return status


def _command(scene: Scene) -> Handler:
    async def command(request: web.Request) -> web.StreamResponse:
        """The command for a box, whose centre and size are in the query (nm, x y z)."""
        if scene.command is None:
            return web.Response(status=404)
        try:
            center, size = (
                [float(number) for number in request.query[key].split(",")]
                for key in ("center", "size")
            )
            return web.Response(text=scene.command(center, size), headers=_JSON)
        except (KeyError, ValueError, OverflowError):
            return web.Response(status=400)

    return command
