"""The web server of `predict view` and `predict serve`: what was named, and nothing else.

Every path begins with a random token. Nothing in a path is ever a path of a file: images, levels
and the files of the page are looked up by name among those that were given.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
import re
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from blockwise_predict.errors import ConfigError, shortened
from blockwise_predict.view.documents import array_document, group_document
from blockwise_predict.view.served import ServedImage

# Digits of an index are bounded, as everything that others send.
_CHUNK = re.compile(r"c(?:/[0-9]{1,9}){1,8}")
_LEVEL = re.compile(r"s([0-9]{1,2})")
# Of a URL that a page of ours shows: the token must not be sent to where its links lead.
_HEADERS = {"Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Address:
    """Where to listen: a host and a port, 0 for any free one."""

    host: str = "127.0.0.1"
    port: int = 0


@dataclass
class Site:
    """What is served: images by name, and what else by its path below the token.

    Pages of other sites may read the images, if they are told the token.
    """

    images: dict[str, ServedImage]
    handlers: Mapping[str, Handler] = field(default_factory=dict)
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))


@asynccontextmanager
async def served(site: Site, address: Address) -> AsyncIterator[str]:
    """Serve a site; gives its URL, token included, without a slash at the end.

    Raises ConfigError if the address cannot be listened at.
    """
    app = web.Application(middlewares=[_guard(site, _names_of(address.host))])
    app.router.add_get("/{token}/data/{name}/{rest:.*}", _data(site))
    for path, handler in site.handlers.items():
        app.router.add_get(f"/{{token}}/{path}", handler)
    # A request whose client has gone away is cancelled.
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        listener = web.TCPSite(runner, address.host, address.port)
        try:
            await listener.start()
        except (OSError, OverflowError) as error:
            raise _not_listening(address, error) from None
        port = runner.addresses[0][1]
        yield f"http://{_shown_host(address.host)}:{port}/{site.token}"
    finally:
        await runner.cleanup()


def _not_listening(address: Address, error: Exception) -> ConfigError:
    reason = getattr(error, "strerror", None) or str(error)
    return ConfigError(
        f"--host {address.host} --port {address.port}: this address cannot be listened at "
        f"({reason}). Leave --port out, for any that is free."
    )


def _shown_host(host: str) -> str:
    """The host of the URL that is told."""
    if host in ("0.0.0.0", "::"):
        return socket.getfqdn()
    return f"[{host}]" if ":" in host else host


def _names_of(host: str) -> frozenset[str]:
    """The names under which a server at a host is asked for."""
    names = {"localhost", host, socket.gethostname(), socket.getfqdn()}
    return frozenset(name.lower() for name in names)


def _is_ours(host: str, names: Iterable[str]) -> bool:
    """Whether a request's `Host` is one of our names, or an address.

    A page of a stranger, whose own name is made to lead here, has that name as its host.
    """
    name = re.sub(r":\d+$", "", host).strip("[]").lower()
    if name in names:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _guard(site: Site, names: frozenset[str]) -> Callable[..., Awaitable[web.StreamResponse]]:
    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not _is_ours(request.headers.get("Host", ""), names):
            return web.Response(status=403, text="This server is not called that.")
        given = request.path.split("/")[1]
        if not hmac.compare_digest(given.encode(), site.token.encode()):
            return web.Response(status=404)
        if request.method == "OPTIONS":
            return web.Response(status=204, headers=_HEADERS | _PREFLIGHT)
        try:
            return await handler(request)
        except web.HTTPException as error:
            return web.Response(status=error.status)
        except Exception as error:  # noqa: BLE001  told where it was asked for, without a traceback
            return web.Response(status=500, text=shortened(str(error)))

    return guard


_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "Content-Length, Content-Range",
}
_PREFLIGHT = _CORS | {
    "Access-Control-Allow-Methods": "GET, HEAD",
    "Access-Control-Allow-Headers": "Range",
    # Chromium asks before a public page may read from this machine.
    "Access-Control-Allow-Private-Network": "true",
    "Access-Control-Max-Age": "600",
}


def _data(site: Site) -> Handler:
    async def data(request: web.Request) -> web.StreamResponse:
        # What follows an @ only makes a client read again what it has cached.
        image = site.images.get(request.match_info["name"].partition("@")[0])
        body = None if image is None else await _body(image, request.match_info["rest"])
        headers = _HEADERS | _CORS
        if body is None:
            return web.Response(status=404, headers=headers)
        return _in_range(request, body, headers)

    return data


async def _body(image: ServedImage, key: str) -> bytes | None:
    """What an image's group has under a key of zarr; None for anything else."""
    if key == "zarr.json":
        return json.dumps(group_document(image)).encode()
    name, _, rest = key.partition("/")
    match = _LEVEL.fullmatch(name)
    if match is None:
        return None
    number = int(match[1])
    if rest == "zarr.json":
        document = array_document(image, number)
        return None if document is None else json.dumps(document).encode()
    if _CHUNK.fullmatch(rest) is None:
        return None
    return await image.chunk(number, [int(part) for part in rest.split("/")[1:]])


def _in_range(request: web.Request, body: bytes, headers: dict[str, str]) -> web.Response:
    """A body, or the range of it that a request asks for."""
    headers = {**headers, "Accept-Ranges": "bytes", "Cache-Control": "no-cache"}
    kind = "application/json" if request.path.endswith(".json") else "application/octet-stream"
    try:
        begin, end, _ = request.http_range.indices(len(body))
    except ValueError:
        return web.Response(status=416, headers=headers)
    if (begin, end) == (0, len(body)) and request.headers.get("Range") is None:
        return web.Response(body=body, headers=headers, content_type=kind)
    if begin >= end:
        return web.Response(
            status=416, headers={**headers, "Content-Range": f"bytes */{len(body)}"}
        )
    headers["Content-Range"] = f"bytes {begin}-{end - 1}/{len(body)}"
    return web.Response(status=206, body=body[begin:end], headers=headers, content_type=kind)
