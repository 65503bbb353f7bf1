"""Text for the terminal, without characters that control it.

Names of axes and tensors, keys of YAML files, errors and logs come from files that somebody else
may have written. A terminal obeys the control characters in them: it can overwrite lines, set the
window's title, or send keys as if typed. `use_plain_streams` filters all of stdout and stderr, so
that no message is missed. The progress bar, which needs control characters, writes to a stream of
its own and passes its text through `plain`.
"""

from __future__ import annotations

import io
import sys
from typing import TextIO

from blockwise_predict.config.plain import plain


class PlainStream(io.TextIOWrapper):
    """A text stream that escapes control characters."""

    def write(self, text: str) -> int:
        """Write the text as `plain` gives it."""
        super().write(plain(text))
        return len(text)


def use_plain_streams() -> None:
    """Escape control characters in everything that this process prints from now on."""
    sys.stdout, sys.stderr = _plain_stream(sys.stdout), _plain_stream(sys.stderr)


def _plain_stream(stream: TextIO) -> PlainStream:
    # click bypasses a stream that can encode only ASCII.
    encoding = "utf-8" if stream.encoding.lower() in ("ascii", "us-ascii") else stream.encoding
    return PlainStream(
        stream.buffer,
        encoding,
        # Also for lone surrogates, which JSON may contain.
        errors="backslashreplace",
        line_buffering=bool(stream.line_buffering),
    )
