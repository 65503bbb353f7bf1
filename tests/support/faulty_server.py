"""A web server between tests and what they read: it fails as object stores do."""

from __future__ import annotations

import http.server
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.support.webserver import served_by

# What a request is answered with instead: a status, and S3's error code. None hands it on.
Fault = Callable[[str, str], tuple[int, str] | None]
_SKIPPED = {"connection", "transfer-encoding", "content-length"}


@contextmanager
def faulty_server(behind: str, fault: Fault) -> Iterator[str]:
    """The URL of a proxy of the server `behind`; `fault` is asked with method and path."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Else the end of each answer waits for 40 ms.
        disable_nagle_algorithm = True

        def handle_one(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if (answer := fault(self.command, self.path)) is not None:
                status, code = answer
                text = f"<?xml version='1.0'?><Error><Code>{code}</Code></Error>"
                self._answer(status, {}, text.encode())
                return
            headers = {k: v for k, v in self.headers.items() if k.lower() not in _SKIPPED}
            request = urllib.request.Request(
                behind + self.path, body or None, headers, method=self.command
            )
            try:
                with urllib.request.urlopen(request) as reply:
                    self._answer(reply.status, dict(reply.headers), reply.read())
            except urllib.error.HTTPError as error:
                self._answer(error.code, dict(error.headers), error.read())

        def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for key, value in headers.items():
                if key.lower() not in _SKIPPED:
                    self.send_header(key, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_one  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with served_by(Handler) as address:
        yield address
