"""Texts of strangers as a page shows them: without characters that move or hide others."""

from __future__ import annotations

import unicodedata

_KEPT = "\n\t"


def readable(text: str) -> str:
    """The text with a replacement character for each control and formatting character, such as the
    marks that change the direction of writing."""
    if text.isprintable():
        return text
    return "".join(
        "\ufffd" if unicodedata.category(c) in ("Cc", "Cf") and c not in _KEPT else c for c in text
    )
