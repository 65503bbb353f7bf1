"""Web servers of tests, on a free port of this machine."""

from __future__ import annotations

import functools
import http.server
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any


@contextmanager
def served_by(handler: Callable[..., Any]) -> Iterator[str]:
    """The address of a server whose requests a handler answers."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    # It would take half a second to notice that it is to end.
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _FilesOnly(http.server.SimpleHTTPRequestHandler):
    """Folders and missing files are denied, as public buckets do that may not be listed."""

    def do_GET(self) -> None:
        if not Path(self.translate_path(self.path)).is_file():
            self.send_error(HTTPStatus.FORBIDDEN)
            return
        super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def files_only(folder: Path) -> Iterator[str]:
    """Serve the files below a folder, and list nothing; gives the server's address."""
    with served_by(functools.partial(_FilesOnly, directory=str(folder))) as address:
        yield address


class _Ranges(http.server.SimpleHTTPRequestHandler):
    """Answers ranges, lists nothing, and lets pages of other servers read it, as viewers do."""

    def __init__(self, *args: Any, sent: list[str], **more: Any) -> None:
        self._sent = sent
        super().__init__(*args, **more)

    def do_GET(self) -> None:
        file = Path(self.translate_path(self.path))
        if not file.is_file():
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        data = file.read_bytes()
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        begin, end = 0, len(data)
        if wanted is not None and wanted[1]:
            begin, end = int(wanted[1]), min(end, int(wanted[2]) + 1 if wanted[2] else end)
        elif wanted is not None:
            begin = end - int(wanted[2])
        if begin >= end:
            self.send_error(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
            return
        self._sent.append(self.path.lstrip("/"))
        self.send_response(HTTPStatus.PARTIAL_CONTENT if wanted else HTTPStatus.OK)
        if wanted:
            self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(data)}")
        self.send_header("Content-Length", str(end - begin))
        self.end_headers()
        self.wfile.write(data[begin:end])

    def do_OPTIONS(self) -> None:
        self.send_response(HTTPStatus.NO_CONTENT)
        self.send_header("Access-Control-Allow-Headers", "Range")
        self.end_headers()

    def end_headers(self) -> None:
        self.send_header("Access-Control-Allow-Origin", "*")
        self.send_header("Access-Control-Expose-Headers", "Content-Length, Content-Range")
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def ranges(folder: Path, sent: list[str] | None = None) -> Iterator[str]:
    """Serve the files below a folder, as most public data are; gives the server's address.

    The path of each file that is sent is added to `sent`.
    """
    handler = functools.partial(_Ranges, directory=str(folder), sent=[] if sent is None else sent)
    with served_by(handler) as address:
        yield address
