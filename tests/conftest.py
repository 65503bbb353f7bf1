"""Settings and fixtures for all tests."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# The networks of the tests are tiny: more threads only get into each other's way. Set before torch
# is imported, and handed down to the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Where Python is told to write no bytecode, each process that tests start would compile the
# package again: a third of a second.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# What ignores a signal hands that down. Tests may be started in the background, or by nohup, and
# what they start must hear these all the same.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

from tests.support.jobs import Job  # noqa: E402, after what torch reads when it is imported
from tests.support.s3 import s3_bucket  # noqa: E402

# How long an example takes is up to what else the machine does.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


SHARING = (
    *("run/test_volara.py", "run/test_neuroglancer.py", "tests/test_formats.py"),
    *("report/test_report.py", "run/test_observed.py"),
    *("view/test_page.py", "view/test_serve.py"),
)
"""Modules whose tests share what takes long to set up."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """Tests that share a Slurm, volara's environment, a browser or servers run one after the other;
    all others wherever there is room."""
    # Not `--dist loadgroup`: with pytest 9.2, xdist 3.8 groups nothing, and says nothing
    # (pytest-xdist's issue 1386).
    from xdist.scheduler import LoadScopeScheduling

    class Shared(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            module = nodeid.split("::")[0]
            folder = module.rpartition("/")[0]
            if folder.endswith("fleet/slurm"):
                return folder
            return module if module.endswith(SHARING) else nodeid

    return Shared(config, log)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket of a real server of the S3 protocol, also for the processes that a test starts."""
    with s3_bucket(monkeypatch) as location:
        yield location


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


@pytest.fixture
def bounded() -> Iterator[None]:
    """Holds a test to 60 s and 1 GiB."""
    begin, taken = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert time.monotonic() - begin < 60, "10 s, with room for a busy machine"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - taken < 1 << 20
