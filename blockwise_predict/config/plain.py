"""Text without characters that control a terminal."""

from __future__ import annotations

import re

# C0 except tab and newline, DEL, C1, marks that change the direction of writing, and separators
# that only some programs take for the end of a line.
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)


def plain(text: str) -> str:
    """The text with control characters escaped as in Python, for example `\\x1b`."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
