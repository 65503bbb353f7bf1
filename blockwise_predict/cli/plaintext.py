"""Text for the terminal: nothing in it can move the cursor, change colours or run backwards.

Names of axes and tensors, keys of YAML files, errors and logs come from files that somebody else
may have written. A terminal would obey the control characters in them: overwrite what stands there,
set the window's title, answer with keys as if typed. `use_plain_streams` puts one filter before
stdout and stderr, so that no message can be forgotten; what draws with control characters of its
own (the progress bar) has a stream of its own, and passes its texts through `plain`.
"""

from __future__ import annotations

import io
import re
import sys
from typing import TextIO

# C0 but for tab and newline, DEL, C1; the marks that change the direction of writing, and those
# that only some programs take for the end of a line.
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)


def plain(text: str) -> str:
    """The text with control characters as Python writes them, `\\x1b` for example."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class PlainStream(io.TextIOWrapper):
    """A text stream that writes no control characters."""

    def write(self, text: str) -> int:
        """Write the text as `plain` gives it."""
        super().write(plain(text))
        return len(text)


def use_plain_streams() -> None:
    """Have all that this process writes to stdout and stderr from now on be plain text."""
    sys.stdout, sys.stderr = _plain_stream(sys.stdout), _plain_stream(sys.stderr)


def _plain_stream(stream: TextIO) -> PlainStream:
    # As click would have it, which otherwise goes around a stream that can hold only ASCII.
    encoding = "utf-8" if stream.encoding.lower() in ("ascii", "us-ascii") else stream.encoding
    return PlainStream(
        stream.buffer,
        encoding,
        # Also half of a surrogate pair, which JSON can hold.
        errors="backslashreplace",
        line_buffering=bool(stream.line_buffering),
    )
