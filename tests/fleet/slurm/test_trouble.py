"""Jobs that a real Slurm ends, holds, refuses or cannot run, and what the user is told."""

from __future__ import annotations

import re
import signal
import time
from pathlib import Path

import pytest

from blockwise_predict.config.resources import resource_folder
from tests.support.queued import CPU, SlurmJob
from tests.support.runs import events, predict, until
from tests.support.slurm import Cluster, starts_now

pytestmark = pytest.mark.slow


def test_a_preempted_worker_hands_back_and_joins_again(cluster: Cluster, job: SlurmJob) -> None:
    job.wait()
    process = job.begin("a", "--workers", "4", "--cores", "2", "--retries", "0")
    until(lambda: job.blocks_done("a") == 16)
    keys = {node: key for key, _, node in cluster.queue()}
    cluster.command(
        *("sbatch", "--partition=urgent", "--nodelist=n2", "--exclusive", "--output=/dev/null"),
        *("--wrap", "sleep 2"),
    )
    # It was told in good time, and left with nothing in hand.
    until(lambda: len(events(job.run_dir("a"), "leave")) == 1)
    assert events(job.run_dir("a"), "leave")[0]["held"] == []
    starts_now(cluster, keys["n2"])
    until(lambda: len(events(job.run_dir("a"), "join")) == 5)
    job.go()
    job.ends_well("a", process)


def test_a_requeued_job_joins_again(cluster: Cluster, job: SlurmJob) -> None:
    job.wait()
    process = job.begin("a", "--workers", "2")
    until(lambda: job.blocks_done("a") == 8)
    first = cluster.queue()[0][0]
    cluster.command("scontrol", "requeue", first)
    starts_now(cluster, first)
    until(lambda: sum(f"slurm-{first}" in e["name"] for e in events(job.run_dir("a"), "join")) == 2)
    job.go()
    job.ends_well("a", process)


def test_a_bad_script_is_told_with_its_error(job: SlurmJob, tmp_path: Path) -> None:
    script = tmp_path / "site.sbatch"
    shipped = (resource_folder("workers") / "slurm.sbatch").read_text()
    script.write_text(shipped.replace('exec "${worker', 'module load nonsense\nexec "${worker'))
    output = predict(*job.arguments("a", "--fleet", script, *CPU, "--workers", "2"), code=1)
    assert re.search(r"\d consecutive jobs failed to start a worker. The last one: job", output)
    assert re.search(r"ended before its worker joined \(FAILED\). Its log \S+\.log ends", output)
    assert "module: command not found" in output
    assert output.count("module: command not found") == 2, "once as a warning, once at the end"
    failed = predict("logs", job.output("a"), "--failed")
    assert "(never joined)" in failed
    assert "module: command not found" in failed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--queue", "nowhere"), "invalid partition specified: nowhere"),
        (("--submit-options", "--no-such-option"), "unrecognized option"),
        (("--fleet", "./missing.sbatch"), "there is no such file"),
        (("--submit-options=-M other",), "-M applies to sbatch only"),
    ],
)
def test_mistakes_are_found_before_anything_is_written(
    options: tuple[str, ...], message: str, job: SlurmJob
) -> None:
    output = predict(*job.arguments("a", *options), code=2)
    assert message in output
    assert not job.run_dir("a").exists()


def test_jobs_that_no_node_can_run_are_told_of(cluster: Cluster, job: SlurmJob) -> None:
    process = job.begin("a", "--cores", "64")
    until(lambda: len(cluster.queue()) == 1)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert re.search(
        r"Warning: Slurm could not run the jobs of \S+slurm.sbatch now: .*\n?.*Req", output
    )
    assert "If no node is down, ask for less." in output


def test_nodes_that_are_down_are_waited_for(cluster: Cluster, job: SlurmJob) -> None:
    nodes = "nodename=n[1-4]"
    cluster.command("scontrol", "update", nodes, "state=down", "reason=maintenance")
    process = job.begin("a", "--workers", "2")
    try:
        until(lambda: [state for _, state, _ in cluster.queue()] == ["PENDING"] * 2)
    finally:
        cluster.command("scontrol", "update", nodes, "state=resume")
    job.ends_well("a", process)


@pytest.mark.parametrize("how", ["warned of its time limit", "cancelled"])
def test_a_worker_that_is_told_to_end_hands_back(how: str, cluster: Cluster, job: SlurmJob) -> None:
    job.wait()
    process = job.begin("a", "--workers", "1", "--retries", "0")
    until(lambda: job.blocks_done("a") == 4)
    # As `--signal=B:TERM@120` in the script has it done, two minutes before the end.
    early = ("--batch", "--signal=TERM") if how != "cancelled" else ()
    cluster.command("scancel", *early, cluster.queue()[0][0])
    until(lambda: len(events(job.run_dir("a"), "join")) == 2)
    assert [event["held"] for event in events(job.run_dir("a"), "leave")] == [[]]
    job.go()
    output = job.ends_well("a", process)
    assert ("Warning" in output) == (how == "cancelled")


def test_jobs_that_are_held_are_told_of(cluster: Cluster, job: SlurmJob) -> None:
    process = job.begin("a", "--workers", "1", "--submit-options", "--hold")
    until(lambda: len(cluster.queue()) == 1)
    time.sleep(2)
    cluster.command("scontrol", "release", cluster.queue()[0][0])
    output = job.ends_well("a", process)
    assert re.search(r"1 jobs are held, and wait until .*: slurm-\d+_0 \(JobHeldUser\)", output)


def test_a_node_that_goes_down_is_made_up_for(cluster: Cluster, job: SlurmJob) -> None:
    job.wait()
    # Slurm would put the job into the queue again, and let it wait there for two minutes.
    options = ("--workers", "2", "--cores", "2", "--submit-options=--no-requeue")
    process = job.begin("a", *options)
    until(lambda: job.blocks_done("a") == 8)
    node = cluster.running()[0]
    cluster.kill_node(node)
    try:
        until(lambda: len(events(job.run_dir("a"), "join")) == 3)
        job.go()
        job.ends_well("a", process)
    finally:
        cluster.revive(node)


def test_jobs_that_are_told_to_end_before_they_join_say_so(job: SlurmJob, tmp_path: Path) -> None:
    script = tmp_path / "site.sbatch"
    shipped = (resource_folder("workers") / "slurm.sbatch").read_text()
    # It gets the signal that comes before the time is up.
    script.write_text(shipped.replace('exec "${worker', 'kill -TERM $$\nexec "${worker'))
    output = predict(*job.arguments("a", "--fleet", script, *CPU, "--workers", "1"), code=1)
    said = r"ended before its worker joined \(FAILED by SIGTERM, as before a time limit\)"
    assert re.search(rf"{said}. Its log \S+\.log is empty: it ended before it wrote", output), (
        output
    )
