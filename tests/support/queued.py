"""Tiny runs whose workers are jobs of a queue."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.forked import Forked
from tests.support.jobs import Job
from tests.support.runs import stored_bytes
from tests.support.sabotage import SLOW, WAITING, write_startup

CPU = ("--gpus", "0", "--cores", "1", "--job-memory", "1G", "--wall-time", "1h")

# Waiting for a queue takes most of a test's time.
IMPATIENT = """
import sys
if "run" in sys.orig_argv:
    from blockwise_predict.fleet import cluster, job_failures
    cluster.POLL_S = 0.5
    job_failures.FIRST_DELAY_S = 0.1
"""


class SlurmJob(Job):
    """A tiny run whose workers are jobs of Slurm."""

    fleet: tuple[str, ...] = ("--fleet", "slurm", *CPU)

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(folder)
        self._monkeypatch = monkeypatch
        self._processes: list[Forked] = []
        self._start_with("")

    def _start_with(self, body: str) -> None:
        (self.folder / "site").mkdir(exist_ok=True)
        write_startup(self.folder / "site", IMPATIENT + body)
        self._monkeypatch.setenv("PYTHONPATH", str(self.folder / "site"))

    def pause(self, seconds: float) -> None:
        """Have each block take so long at least."""
        self._start_with(SLOW.replace("0.2", str(seconds)))

    def wait(self) -> None:
        """Have each worker wait after some blocks, until `go`."""
        self._start_with(WAITING.format(folder=str(self.folder)))

    def go(self) -> None:
        """Let workers that wait go on."""
        (self.folder / "go").touch()

    def arguments(self, name: str, *more: object) -> list[object]:
        fleet = () if "--fleet" in more else self.fleet
        return super().arguments(name, *fleet, *more)

    def begin(self, name: str, *more: object) -> Forked:
        process = super().begin(name, *more)
        self._processes.append(process)
        return process

    def ends_well(self, name: str, process: Forked) -> str:
        """Wait for a run's end; it must have predicted every voxel as an undisturbed run does."""
        output, _ = process.communicate(timeout=150)
        assert process.returncode == 0, output
        self._monkeypatch.delenv("PYTHONPATH")
        assert stored_bytes(self.output(name)) == stored_bytes(self.undisturbed())
        assert not (self.run_dir(name) / "jobs.json").exists()
        return output

    def kill(self) -> None:
        """End what a failed test has left, which would submit jobs to the next one's Slurm."""
        for process in self._processes:
            process.kill()
