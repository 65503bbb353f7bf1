"""Fixtures for the tests of the scheduler and its connections."""

from __future__ import annotations

import pytest

from blockwise_predict.scheduling import client, retries, worker_server
from blockwise_predict.scheduling.transport import gate


@pytest.fixture
def patient_handshakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may need more than a few seconds for one."""
    monkeypatch.setattr(gate, "HANDSHAKE_S", 60.0)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What happens after a while happens soon."""
    monkeypatch.setattr(client, "TAKEOVER_POLL_S", 0.2)
    monkeypatch.setattr(retries, "LOST_DELAY", 0.1)


@pytest.fixture
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is cut off must be quick to come back."""
    monkeypatch.setattr(worker_server, "GRACE_S", 0.3)
