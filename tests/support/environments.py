"""Environments that see the packages of this one, so that nothing is fetched twice."""

from __future__ import annotations

import sys


def outer_packages() -> list[str]:
    """Folders of this interpreter's installed packages, without the checkout itself."""
    return [p for p in sys.path if p.endswith("site-packages")]
