"""What the user is told about a worker that wrote nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from blockwise_predict.fleet.log_tail import log_tail
from tests.support.disks import fill, small_disk


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk on which not a byte is left."""
    with small_disk(tmp_path / "disk", "64k") as disk:
        fill(disk / "ballast")
        yield disk


def test_an_empty_log_on_a_full_disk_says_that_it_is_full(full_disk: Path) -> None:
    log = full_disk / "slurm-1_0-n1.log"
    log.touch()
    assert log_tail(full_disk, "slurm-1_0") == (
        f"Its log {log} is empty, since nothing can be written there (No space left on device): "
        "make room."
    )
    assert log_tail(full_disk, "slurm-1_1") == (
        f"It left no log in {full_disk}, since nothing can be written there (No space left on "
        "device): make room."
    )


def test_an_empty_log_elsewhere_says_that_nothing_was_written(tmp_path: Path) -> None:
    log = tmp_path / "worker-0000.log"
    log.touch()
    said = f"Its log {log} is empty: it ended before it wrote anything."
    assert log_tail(tmp_path, "worker-0000") == said
    # The trial of the disk leaves nothing.
    assert list(tmp_path.iterdir()) == [log]


def test_a_missing_log_is_reported(tmp_path: Path) -> None:
    assert log_tail(tmp_path, "slurm-1_1") == f"It left no log in {tmp_path}."
