"""A Slurm of four nodes, which all tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.queued import SlurmJob
from tests.support.slurm import Cluster, missing, slurm


@pytest.fixture(scope="package")
def running_slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if reason := missing():
        pytest.skip(reason)
    with slurm(tmp_path_factory.mktemp("slurm")) as running:
        yield running


@pytest.fixture(autouse=True)
def cluster(running_slurm: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """The Slurm, with an empty queue; and nothing of ours in it at the end of a test."""
    for key, value in running_slurm.environment.items():
        monkeypatch.setenv(key, value)
    yield running_slurm
    left = running_slurm.queue()
    running_slurm.clear()
    assert not left, "a run has left jobs behind"


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlurmJob]:
    slurm_job = SlurmJob(tmp_path, monkeypatch)
    yield slurm_job
    slurm_job.kill()
