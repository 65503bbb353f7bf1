"""What the user is told of a worker that said nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from blockwise_predict.fleet.lastwords import last_words


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk on which not a byte is left."""
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("needs root, for tmpfs")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("tmpfs cannot be mounted here")
    try:
        with suppress(OSError), open(disk / "ballast", "wb", buffering=0) as ballast:
            while True:
                ballast.write(bytes(4096))
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


def test_an_empty_log_on_a_full_disk_says_that_it_is_full(full_disk: Path) -> None:
    log = full_disk / "slurm-1_0-n1.log"
    log.touch()
    assert last_words(full_disk, "slurm-1_0") == (
        f"Its log {log} is empty, since nothing can be written there (No space left on device): "
        "make room."
    )
    assert last_words(full_disk, "slurm-1_1") == (
        f"It left no log in {full_disk}, since nothing can be written there (No space left on "
        "device): make room."
    )


def test_an_empty_log_elsewhere_says_that_nothing_was_said(tmp_path: Path) -> None:
    log = tmp_path / "worker-0000.log"
    log.touch()
    said = f"Its log {log} is empty: it ended before it said anything."
    assert last_words(tmp_path, "worker-0000") == said
    # The trial of the disk leaves nothing.
    assert list(tmp_path.iterdir()) == [log]
