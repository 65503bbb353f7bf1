"""A web server that gives out files, and lists nothing."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path


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
    """Serve the files below a folder; gives the server's address."""
    handler = functools.partial(_FilesOnly, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
