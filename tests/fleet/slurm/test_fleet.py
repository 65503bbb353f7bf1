"""Fleets on a real Slurm: runs to their end, and fleets that change on the way."""

from __future__ import annotations

import re
import shlex
import time
from pathlib import Path

import pytest

from blockwise_predict.records import RunDir
from tests.support.queued import SlurmJob
from tests.support.runs import command, events, predict, until
from tests.support.slurm import Cluster, starts_now

pytestmark = pytest.mark.slow


def test_a_run_to_its_end(job: SlurmJob) -> None:
    job.wait()
    process = job.begin("a", "--workers", "3")
    until(lambda: len(events(job.run_dir("a"), "join")) == 3)
    job.go()
    output = job.ends_well("a", process)
    assert "Warning" not in output
    joins = events(job.run_dir("a"), "join")
    assert len(joins) == 3
    # One log for each worker, named by job and host.
    for join in joins:
        assert re.search(r"job slurm-\d+_[012]$", join["name"])
        assert re.search(r"/logs/slurm-\d+_[012]-\S+\.log$", join["log"])
        assert "blocks done" in Path(join["log"]).read_text()
    listed = predict("logs", job.output("a")).splitlines()
    assert len(listed) == 3
    assert listed[0].endswith(joins[0]["log"])
    day, time_of_day = r"\d{4}-\d\d-\d\d ", r"\d\d:\d\d:\d\d"
    assert re.match(rf"worker 0  {day}{time_of_day}-({day})?{time_of_day}  \S+, process", listed[0])
    assert "worker 1: " in predict("logs", job.output("a"), "--worker", "1")
    assert "No worker has failed." in predict("logs", job.output("a"), "--failed")
    assert "--worker 9: there is no log of it" in predict(
        "logs", job.output("a"), "--worker", "9", code=2
    )
    # A second run has nothing to do, and submits nothing.
    assert "27 of 27" in predict(*job.arguments("a"))


def test_a_fleet_larger_than_the_cluster_and_jobs_that_wait_are_cancelled_at_the_end(
    cluster: Cluster, job: SlurmJob
) -> None:
    job.pause(0.4)
    process = job.begin("a", "--workers", "40", "--throttle", "6", "--cores", "2")
    until(lambda: len(cluster.queue()) == 40)
    until(lambda: job.blocks_done("a") > 5)
    states = [state for _, state, _ in cluster.queue()]
    assert 1 <= states.count("RUNNING") <= 6
    assert states.count("PENDING") >= 34
    job.ends_well("a", process)


def test_the_number_of_workers_is_changed_during_a_run(cluster: Cluster, job: SlurmJob) -> None:
    job.wait()
    process = job.begin("a", "--workers", "1")
    until(lambda: job.blocks_done("a") == 4)
    assert "will keep 3 workers" in predict("scale", job.output("a"), "3")
    until(lambda: len(cluster.queue()) == 3)
    until(lambda: len(events(job.run_dir("a"), "join")) == 3)
    predict("scale", job.output("a"), "1")
    time.sleep(2)
    job.go()
    until(lambda: len(cluster.queue()) == 1)
    output = job.ends_well("a", process)
    assert "Warning" not in output
    assert not [e for e in events(job.run_dir("a"), "leave") if e["held"]]
    assert "no scheduler runs in" in predict("scale", job.output("a"), "2", code=2)


def scheduler_job(cluster: Cluster, job: SlurmJob, *options: str) -> tuple[str, Path]:
    """Submit a run `a` of two workers as a job; returns its id and its output."""
    script, out = job.folder / "scheduler.sh", job.folder / "scheduler.out"
    words = [str(word) for word in command(*job.arguments("a", "--workers", "2"))]
    script.write_text("#!/bin/bash\n" + shlex.join(words) + "\n")
    options = (f"--output={out}", "--open-mode=append", "--mem=500", "--requeue", *options)
    said = cluster.command("sbatch", "--parsable", *options, script.name, cwd=job.folder)
    return said.strip(), out


def test_a_scheduler_that_is_itself_a_job(cluster: Cluster, job: SlurmJob) -> None:
    _, out = scheduler_job(cluster, job, "--wait")
    assert "Done: " in out.read_text()
    assert RunDir(job.run_dir("a")).plan().num_blocks == job.blocks_done("a")


@pytest.mark.parametrize("how", ["scancel", "requeue"])
def test_a_scheduler_whose_job_is_ended_takes_its_workers_along(
    how: str, cluster: Cluster, job: SlurmJob
) -> None:
    job.pause(0.5)
    own, out = scheduler_job(cluster, job)
    until(lambda: job.blocks_done("a") >= 2)
    cluster.command(*(("scancel", own) if how == "scancel" else ("scontrol", "requeue", own)))
    left = [own] if how == "requeue" else []
    until(lambda: [key for key, state, _ in cluster.queue() if state != "COMPLETING"] == left)
    until(lambda: "Interrupted: " in out.read_text())
    assert not (job.run_dir("a") / "jobs.json").exists()
    if how == "requeue":
        starts_now(cluster, own)
        until(lambda: "Done: " in out.read_text() and not cluster.queue(), 120)
        assert "Resuming: " in out.read_text()
