"""Fixtures for the tests of fleets."""

from __future__ import annotations

import pytest

from blockwise_predict.fleet import cluster as cluster_module
from blockwise_predict.fleet import job_failures as job_failures_module


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Queues are asked again at once, and jobs submitted again without a pause."""
    monkeypatch.setattr(cluster_module, "POLL_S", 0.0)
    monkeypatch.setattr(cluster_module, "RESUBMIT_S", 0.0)
    monkeypatch.setattr(job_failures_module, "FIRST_DELAY_S", 0.0)
