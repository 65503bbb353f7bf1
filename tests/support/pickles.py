"""Pickles that do something when they are read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


class MakesFolder:
    """Makes a folder, whether or not it is there, when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> Any:
        return os.makedirs, (self.folder, 0o755, True)
