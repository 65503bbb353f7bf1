"""Fleets on a real Slurm of four nodes: a run to its end, and everything that comes between."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from blockwise_predict.config.resources import resource_folder
from blockwise_predict.records import RunDir
from tests.run.test_faults import WAITING
from tests.run.test_run import SLOW, Job
from tests.support.runs import command, events, predict, stored_bytes, until
from tests.support.slurm import Cluster, missing, slurm

pytestmark = [
    pytest.mark.usefixtures("cluster"),
    pytest.mark.slow,
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
]

CPU = ("--gpus", "0", "--cores", "1", "--job-memory", "1G", "--wall-time", "1h")
# Waiting for a queue takes most of a test's time.
IMPATIENT = """
import sys
if "run" in sys.orig_argv:
    from blockwise_predict.fleet import cluster, job_failures
    cluster.POLL_S = 0.5
    job_failures.FIRST_DELAY_S = 0.1
"""


@pytest.fixture(scope="module")
def running_slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with slurm(tmp_path_factory.mktemp("slurm")) as running:
        yield running


@pytest.fixture
def cluster(running_slurm: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """The Slurm, with an empty queue; and nothing of ours in it at the end of a test."""
    for key, value in running_slurm.environment.items():
        monkeypatch.setenv(key, value)
    yield running_slurm
    left = running_slurm.queue()
    running_slurm.clear()
    assert not left, "a run has left jobs behind"


class SlurmJob(Job):
    """A tiny run whose workers are jobs of Slurm."""

    fleet: tuple[str, ...] = ("--fleet", "slurm", *CPU)

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(folder)
        self._monkeypatch = monkeypatch
        self._processes: list[subprocess.Popen[str]] = []
        self._start_with("")

    def _start_with(self, body: str) -> None:
        (self.folder / "site").mkdir(exist_ok=True)
        (self.folder / "site" / "sitecustomize.py").write_text(IMPATIENT + body)
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

    def begin(self, name: str, *more: object) -> subprocess.Popen[str]:
        """Start a run, without waiting for its first blocks."""
        process = subprocess.Popen(
            command(*self.arguments(name, *more)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._processes.append(process)
        return process

    def ends_well(self, name: str, process: subprocess.Popen[str]) -> str:
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


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlurmJob]:
    slurm_job = SlurmJob(tmp_path, monkeypatch)
    yield slurm_job
    slurm_job.kill()


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


def starts_now(cluster: Cluster, key: str) -> None:
    """A job that was put into the queue again starts without the two minutes that Slurm lets it
    wait."""
    until(lambda: (key, "PENDING", "") in cluster.queue())
    # Within the second in which it was ended, its node would refuse it ("Job credential revoked").
    time.sleep(2)
    cluster.command("scontrol", "update", f"jobid={key}", "starttime=now")


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
        (("--submit-options=-M other",), "-M holds for sbatch alone"),
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


def test_jobs_that_are_told_to_end_before_they_join_say_so(job: SlurmJob, tmp_path: Path) -> None:
    script = tmp_path / "site.sbatch"
    shipped = (resource_folder("workers") / "slurm.sbatch").read_text()
    # It gets the signal that comes before the time is up.
    script.write_text(shipped.replace('exec "${worker', 'kill -TERM $$\nexec "${worker'))
    output = predict(*job.arguments("a", "--fleet", script, *CPU, "--workers", "1"), code=1)
    said = r"ended before its worker joined \(FAILED by SIGTERM, as before a time limit\)"
    assert re.search(rf"{said}. Its log \S+\.log is empty: it ended before it said", output), output
