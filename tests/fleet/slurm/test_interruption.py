"""Runs on a real Slurm that are interrupted or crash, and the jobs that they leave."""

from __future__ import annotations

import json
import re
import signal
import time

import pytest

from tests.support.queued import SlurmJob
from tests.support.runs import until
from tests.support.slurm import Cluster

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing_in_the_queue_and_goes_on(
    number: signal.Signals, cluster: Cluster, job: SlurmJob
) -> None:
    job.pause(2)
    process = job.begin("a", "--workers", "10", "--slots", "1")
    until(lambda: job.blocks_done("a") >= 2)
    process.send_signal(number)
    output, _ = process.communicate(timeout=100)
    assert process.returncode == 130, output
    assert "Interrupted:" in output
    assert not cluster.queue()
    job.pause(0)
    job.ends_well("a", job.begin("a", "--workers", "2"))


def test_the_run_after_a_crash_takes_over_the_jobs_that_are_left(
    cluster: Cluster, job: SlurmJob
) -> None:
    job.pause(0.5)
    process = job.begin("a", "--workers", "10", "--cores", "2")
    until(lambda: job.blocks_done("a") >= 2)
    process.kill()
    process.wait()
    left = {key for key, _, _ in cluster.queue()}
    assert len(left) == 10
    assert len(json.loads((job.run_dir("a") / "jobs.json").read_text())["ids"]) == 1
    process = job.begin("a", "--workers", "6", "--cores", "2")
    until(lambda: len(cluster.queue()) == 6)
    assert {key for key, _, _ in cluster.queue()} < left
    output = job.ends_well("a", process)
    assert "10 jobs of the last run are still in the queue: taken over." in output


def test_leftovers_that_are_not_wanted_are_cancelled(cluster: Cluster, job: SlurmJob) -> None:
    job.wait()
    process = job.begin("a", "--workers", "3")
    until(lambda: job.blocks_done("a") >= 2)
    process.kill()
    process.wait()
    assert len(cluster.queue()) == 3
    job.go()
    output = job.ends_well("a", job.begin("a", "--fleet", "local"))
    assert re.search(r"jobs of the last run, named predict-\w{8}, are cancelled.", output)


def test_a_controller_that_stands_still_holds_nothing_up(cluster: Cluster, job: SlurmJob) -> None:
    job.pause(0.5)
    process = job.begin("a", "--workers", "2")
    until(lambda: job.blocks_done("a") > 0)
    with cluster.stopped():
        before = job.blocks_done("a")
        until(lambda: job.blocks_done("a") > before + 4)
        process.send_signal(signal.SIGINT)
        time.sleep(1)
        assert process.poll() is None, "it waits for the queue"
        process.send_signal(signal.SIGINT)
        begun = time.monotonic()
        output, _ = process.communicate(timeout=60)
        assert time.monotonic() - begun < 3.5
    assert process.returncode == 130, output
    assert re.search(r"do it yourself with: scancel --quiet --user=0 --name=predict-\w{8}", output)
    assert (job.run_dir("a") / "jobs.json").exists()
    # The next run finds out what has become of them.
    job.pause(0)
    job.ends_well("a", job.begin("a", "--workers", "2"))
