"""Names of images, as they stand in URLs."""

from __future__ import annotations

import re
from collections.abc import Iterable


def unique_names(paths: Iterable[str], taken: Iterable[str] = ()) -> list[str]:
    """A name for each path, from its last part; none of them twice, or one of those `taken`."""
    used = [*taken]
    names = []
    for path in paths:
        plain = re.sub(r"[^A-Za-z0-9_.-]", "_", path.rstrip("/").rpartition("/")[2]) or "array"
        name, number = plain, 1
        while name in used:
            number += 1
            name = f"{plain}_{number}"
        used.append(name)
        names.append(name)
    return names
