"""Names of images, as they stand in URLs."""

from __future__ import annotations

import re
from collections.abc import Iterable

from blockwise_predict.io.kvstore import normalize

# A path in a URL that has these as parts is shortened by whoever asks for it.
_RELATIVE = ("", ".", "..")


def name_of(path: str) -> str:
    """The last part of a path or URL; of a relative path such as `.` that of the absolute one."""
    return normalize(path).rpartition("/")[2]


def unique_names(given: Iterable[str], taken: Iterable[str] = ()) -> list[str]:
    """A name for each of those given, from its last part; none twice, or one of those `taken`."""
    used = [*taken]
    names = []
    for text in given:
        plain = re.sub(r"[^A-Za-z0-9_.-]", "_", text.rpartition("/")[2])
        if plain in _RELATIVE:
            plain = "array"
        name, number = plain, 1
        while name in used:
            number += 1
            name = f"{plain}_{number}"
        used.append(name)
        names.append(name)
    return names
