"""Jobs that ended: when others are submitted in their place, and when a fleet gives up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from blockwise_predict.errors import RunFailedError
from blockwise_predict.fleet import job_failures as job_failures_module
from blockwise_predict.fleet.job_failures import JobFailures
from blockwise_predict.fleet.job_table import TrackedJob
from blockwise_predict.fleet.queue import Job, State
from blockwise_predict.fleet.restarts import FRUITLESS_EXTRA, FRUITLESS_PER_WORKER
from blockwise_predict.scheduling.members import Membership

pytestmark = pytest.mark.usefixtures("impatient")


def job(key: str, what: str = "FAILED", *, blameless: bool = False) -> Job:
    return Job(key, State.ENDED, what, "n1", blameless)


class Ends:
    """Tells `losses` of jobs that ended, of a fleet of two; gives the pause that follows."""

    def __init__(self, folder: Path) -> None:
        self.told: list[str] = []
        self.losses = JobFailures(folder, self.told.append)
        self.membership = Membership()

    def __call__(self, ended: Job, *, others: bool = False) -> float:
        return self.losses.ended(TrackedJob(ended, 0.0), 2, self.membership, starting=others)

    def done(self) -> None:
        """A block is done."""
        self.membership = replace(self.membership, done=self.membership.done + 1)


def test_jobs_that_fail_before_they_join_stop_the_run_with_their_last_words(tmp_path: Path) -> None:
    ends = Ends(tmp_path)
    (tmp_path / "slurm-1_1-n1.log").write_text("first\nno such module\n")
    (tmp_path / "slurm-1_10-n1.log").write_text("of another job\n")
    ends(job("slurm-1_1"))
    assert "no such module" in ends.told[0]
    assert "another job" not in ends.told[0]
    ends(job("slurm-1_2"))
    # A worker that came proves that it is not hopeless.
    ends.membership = replace(ends.membership, joins=1)
    ends(job("slurm-1_3"))
    ends(job("slurm-1_1"))
    # Nor is it, while others are about to come.
    ends(job("slurm-1_1"), others=True)
    with pytest.raises(RunFailedError, match=r"(?s)4 consecutive jobs .* such module") as e:
        ends(job("slurm-1_1"))
    assert str(tmp_path / "slurm-1_1-n1.log") in str(e.value)


def test_one_bad_machine_does_not_stop_those_that_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_failures_module, "FIRST_DELAY_S", 1.0)
    ends = Ends(tmp_path)
    ends.membership = ends.membership.with_worker(0, "slurm-1_0", 1.0)
    for _ in range(20):
        ends.done()
        delay = ends(job("slurm-1_1"))
    # It is told of, and tried less and less often.
    assert len(ends.told) == 2
    assert (
        "3 consecutive jobs failed to start a worker, while others work. New ones are tried"
        in ends.told[1]
    )
    assert delay == 120
    # Also while those that work need long for a block.
    for _ in range(50):
        ends(job("slurm-1_1"))
    # Those that worked have gone, and nothing is done any more.
    ends.membership = ends.membership.without_worker(0)
    with pytest.raises(RunFailedError, match="71 consecutive jobs failed to start a worker"):
        ends(job("slurm-1_1"))


def test_bad_luck_is_tolerated_but_not_forever(tmp_path: Path) -> None:
    ends = Ends(tmp_path)
    most = FRUITLESS_PER_WORKER * 2 + FRUITLESS_EXTRA
    preempted = job("a", "PREEMPTED", blameless=True)
    for _ in range(2):
        ends.done()
        for _ in range(1 + most):
            ends(preempted)
    with pytest.raises(RunFailedError, match="in a row ended with no block done in between"):
        ends(preempted)


def test_pauses_grow_with_troubles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_failures_module, "FIRST_DELAY_S", 1.0)
    ends = Ends(tmp_path)
    # All jobs of a fleet may reach their limit at once, which is one trouble.
    delays = [ends(job("a", "PREEMPTED", blameless=True)) for _ in range(9)]
    assert delays == [1, 2, 2, 4, 4, 8, 8, 16, 16]
