"""Web servers of tests, on a free port of this machine."""

from __future__ import annotations

import functools
import http.server
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
