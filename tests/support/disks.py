"""Small disks, which are full soon."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[bool]:
    """A new folder, with a disk of a size, as `mount` writes it, where this user may mount one;
    gives whether that is so."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "tmpfs", str(folder)]
    can = shutil.which("mount") and not subprocess.run(mount, capture_output=True).returncode
    try:
        yield bool(can)
    finally:
        if can:
            subprocess.run(["umount", "-l", str(folder)], check=False)


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A disk of a size; skips the test where none can be mounted."""
    with mounted(folder, size) as can:
        if not can:
            pytest.skip("tmpfs cannot be mounted here")
        yield folder


def fill(file: Path) -> None:
    """Write into a file until its disk has not a page left."""
    with suppress(OSError), open(file, "wb", buffering=0) as ballast:
        while True:
            ballast.write(bytes(4096))
