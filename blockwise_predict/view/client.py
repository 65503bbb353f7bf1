"""The files of the page: neuroglancer's client, as its package ships it, and our own around it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from aiohttp import web

from blockwise_predict.errors import PredictError

OWN = Path(__file__).parent / "page"
# By neuroglancer's client the part of the path before this is that of a server of its own.
CLIENT = "v/neuroglancer"
_KINDS = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".wasm": "application/wasm",
}
# The client waits for a server of neuroglancer's own; here the page tells it what to show.
_NO_SERVER = (
    b"window.EventSource = class { constructor() { setTimeout(() => this.onopen?.()); } "
    b"close() {} };"
)
_STUB = "no-server.js"
_PAGE_POLICY = (
    "default-src 'self'; connect-src 'self'; img-src 'self' data:; object-src 'none'; "
    "base-uri 'none'; frame-ancestors 'self'"
)


@cache
def neuroglancer_files() -> Mapping[str, Path]:
    """The files of neuroglancer's client by name, without maps for its developers.

    Raises PredictError if its package is not as it should be.
    """
    # Importing the package would take a second and start a web server of its own.
    spec = find_spec("neuroglancer")
    places = [] if spec is None else spec.submodule_search_locations or []
    files = {
        file.name: file
        for place in places
        for file in sorted((Path(place) / "static" / "client").glob("*"))
        if file.suffix in _KINDS
    }
    if "index.html" not in files:
        raise PredictError(
            "the package neuroglancer, or its client, is not installed: pip install neuroglancer."
        )
    return files


async def neuroglancer_file(request: web.Request) -> web.StreamResponse:
    """A file of neuroglancer's client."""
    name = request.match_info["file"] or "index.html"
    if name == _STUB:
        return web.Response(body=_NO_SERVER, content_type=_KINDS[".js"])
    file = neuroglancer_files().get(name)
    if file is None:
        return web.Response(status=404)
    body = file.read_bytes()
    if name == "index.html":
        body = body.replace(b"<head>", f'<head><script src="{_STUB}"></script>'.encode(), 1)
    return web.Response(body=body, content_type=_KINDS[file.suffix])


async def own_file(request: web.Request) -> web.StreamResponse:
    """A file of the page."""
    name = request.match_info.get("file") or "index.html"
    files = {file.name: file for file in OWN.iterdir()}
    if name not in files:
        return web.Response(status=404)
    kind = _KINDS[files[name].suffix]
    headers = {"Content-Security-Policy": _PAGE_POLICY, "Referrer-Policy": "no-referrer"}
    return web.Response(body=files[name].read_bytes(), content_type=kind, headers=headers)
