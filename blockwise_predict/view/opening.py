"""Opening the page in a browser, without its URL on a command line.

Whoever is on this machine can read command lines, and the URL is all that the page asks for.
"""

from __future__ import annotations

import tempfile
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path

_REDIRECT = (
    '<!doctype html><meta charset="utf-8"><title>predict view</title>'
    '<meta http-equiv="refresh" content="0; url={url}"><a href="{url}">{url}</a>'
)


@contextmanager
def opened(url: str) -> Iterator[None]:
    """Have the browser open a file that only this user can read and that leads to a URL.

    The file is deleted at the end.
    """
    with tempfile.TemporaryDirectory(prefix="predict-view-", ignore_cleanup_errors=True) as folder:
        file = Path(folder) / "open.html"
        file.touch(0o600)
        file.write_text(_REDIRECT.format(url=escape(url)))
        webbrowser.open(file.as_uri())
        yield
