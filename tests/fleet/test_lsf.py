"""Fleets on LSF: against a strict stand-in for its commands, which starts real workers."""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from blockwise_predict.config.model import load_config
from blockwise_predict.config.resources import resource_folder
from blockwise_predict.fleet.jobs import QUEUES
from blockwise_predict.fleet.queue import Request
from blockwise_predict.fleet.queue import State as JobState
from blockwise_predict.fleet.runner import CommandRunner, QueueError
from blockwise_predict.records import RunDir
from tests.support.lsf import LSF, lsf
from tests.support.queued import SlurmJob
from tests.support.runs import events, predict, until
from tests.support.sabotage import WAITING

pytestmark = pytest.mark.slow


TAKE_OVER_SOON = """
if {"run", "worker"} & set(sys.orig_argv):
    from blockwise_predict.records import lock
    from blockwise_predict.scheduling import client
    lock.WATCH_S, client.TAKEOVER_POLL_S = 5.0, 1.0
"""


class LSFJob(SlurmJob):
    """A tiny run whose workers are jobs of LSF."""

    fleet = ("--fleet", "lsf", "--gpus", "0", "--cores", "1")

    def take_over_soon(self) -> None:
        """As `wait`; and a lock that is not held any more is taken over soon."""
        self._start_with(TAKE_OVER_SOON + WAITING.format(folder=str(self.folder)))


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LSF]:
    folder = tmp_path / "lsf"
    folder.mkdir()
    with lsf(folder) as standing:
        monkeypatch.setenv("PATH", str(folder / "bin"), prepend=":")
        yield standing
        assert not alive(standing), "a run has left jobs behind"


def alive(cluster: LSF) -> list[str]:
    return [e.id for e in cluster.elements if e.state not in ("DONE", "EXIT")]


def states(cluster: LSF) -> list[str]:
    return [element.state for element in cluster.elements]


@pytest.fixture
def job(cluster: LSF, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LSFJob:
    assert cluster
    return LSFJob(tmp_path, monkeypatch)


def test_a_run_to_its_end(cluster: LSF, job: LSFJob) -> None:
    output = job.ends_well("a", job.begin("a", "--workers", "3"))
    assert "Warning" not in output
    (words,) = cluster.submissions
    name = re.fullmatch(r"predict-\w{8}\[1-3\]", words[words.index("-J") + 1])
    assert name, words
    joins = events(job.run_dir("a"), "join")
    # Those that had not joined when all was done are cancelled.
    assert states(cluster).count("DONE") >= 1
    for join in joins:
        assert re.search(r"job lsf-101_[123]$", join["name"])
        assert re.search(r"/logs/lsf-101_[123]-\w+\.log$", join["log"])
        assert "blocks done" in Path(join["log"]).read_text()


def test_what_is_asked_for_reaches_bsub_as_ibm_documents_it(tmp_path: Path) -> None:
    given = {
        **{"checkpoint": "c", "input": "i.zarr/r", "output": "o.zarr/a", "fleet": "lsf"},
        **{"queue": "gpu", "project": "em", "gpus": 2, "cores": 8, "job_memory": "32GiB"},
        **{"wall_time": "1d12h", "throttle": 4, "submit_options": "-wt 5", "workers": 12},
    }
    folder = tmp_path / "lsf"
    folder.mkdir()
    with lsf(folder, slots=0) as standing, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(folder / "bin"), prepend=":")
        # With that, bsub would not say which job it is.
        patch.setenv("BSUB_QUIET", "Y")
        script = resource_folder("workers") / "lsf.bsub"
        request = Request(script, "predict-x", 12, tmp_path, load_config(given), {})
        queue = QUEUES["lsf"](CommandRunner())
        assert queue.jobs("predict-x") == []
        job = queue.submit(request)
        assert standing.submissions == [
            [
                *("-J", "predict-x[1-12]%4", "-o", f"{tmp_path}/lsf-%J_%I.out"),
                *("-q", "gpu", "-P", "em", "-gpu", "num=2"),
                *("-n", "8", "-M", "32768MB", "-R", "rusage[mem=32768MB]", "-W", "36:00"),
                *("-wt", "5", "-R", "span[hosts=1]"),
            ]
        ]
        jobs = queue.jobs("predict-x")
        assert [one.key for one in jobs] == queue.keys(job, 12)
        assert {one.state for one in jobs} == {JobState.WAITING}
        queue.cancel([jobs[0].key, jobs[3].key])
        queue.cancel([jobs[0].key])
        assert [one.state for one in queue.jobs("predict-x")].count(JobState.ENDED) == 2
        queue.cancel_all("predict-x")
        queue.cancel_all("predict-x")
        assert {one.state for one in queue.jobs("predict-x")} == {JobState.ENDED}
        nowhere = load_config({**given, "queue": "nowhere"})
        with pytest.raises(QueueError, match=r"nowhere: No such queue\. Job not submitted"):
            queue.submit(Request(script, "predict-x", 1, tmp_path, nowhere, {}))


def test_a_fleet_larger_than_the_cluster_and_jobs_that_wait_are_cancelled_at_the_end(
    cluster: LSF, job: LSFJob
) -> None:
    job.pause(0.3)
    process = job.begin("a", "--workers", "20", "--throttle", "2")
    until(lambda: job.blocks_done("a") > 5)
    assert states(cluster).count("RUN") == 2
    job.ends_well("a", process)
    assert states(cluster).count("EXIT") == 18


def test_a_preempted_job_hands_back_and_joins_again(cluster: LSF, job: LSFJob) -> None:
    job.wait()
    process = job.begin("a", "--workers", "2", "--retries", "0")
    until(lambda: job.blocks_done("a") == 8)
    cluster.preempt("101[1]")
    named = "job lsf-101_1"
    until(lambda: sum(named in e["name"] for e in events(job.run_dir("a"), "join")) == 2)
    job.go()
    job.ends_well("a", process)


def test_a_worker_that_is_warned_of_its_time_limit_hands_back(cluster: LSF, job: LSFJob) -> None:
    job.wait()
    process = job.begin("a", "--workers", "1", "--retries", "0")
    until(lambda: job.blocks_done("a") == 4)
    cluster.warn("101[1]")
    until(lambda: len(events(job.run_dir("a"), "join")) == 2)
    assert [event["held"] for event in events(job.run_dir("a"), "leave")] == [[]]
    job.go()
    output = job.ends_well("a", process)
    assert "Warning" not in output


def test_a_run_that_was_taken_for_dead_leaves_the_jobs_to_its_successor(
    cluster: LSF, job: LSFJob
) -> None:
    job.take_over_soon()
    first = job.begin("a", "--workers", "2")
    until(lambda: job.blocks_done("a") == 8)
    first.send_signal(signal.SIGSTOP)
    lock = job.run_dir("a") / "lock"
    # As if it ran on another host, whose file system passes no locks on.
    lock.write_text(lock.read_text().replace(f'"{socket.gethostname()}"', '"login-node-7"'))
    before = RunDir(job.run_dir("a")).address()
    second = job.begin("a", "--workers", "2")
    until(lambda: RunDir(job.run_dir("a")).address() != before)
    # Its workers notice that, though their scheduler says nothing at all.
    until(lambda: len(events(job.run_dir("a"), "join")) == 4)
    first.send_signal(signal.SIGCONT)
    output, _ = first.communicate(timeout=60)
    assert first.returncode == 1
    assert re.search(r"was taken by process \d+ on \S+ .* took this run for dead", output)
    assert states(cluster) == ["RUN"] * 2
    job.go()
    output = job.ends_well("a", second)
    assert "2 jobs of the last run are still in the queue: taken over." in output


def test_a_bad_script_is_told_with_its_error(job: LSFJob, tmp_path: Path) -> None:
    script = tmp_path / "site.bsub"
    shipped = (resource_folder("workers") / "lsf.bsub").read_text()
    script.write_text(shipped.replace('exec "${worker', 'module load nonsense\nexec "${worker'))
    output = predict(*job.arguments("a", "--fleet", script, *job.fleet[2:]), code=1)
    assert re.search(r"\d consecutive jobs failed to start a worker. The last one: job", output)
    assert "EXIT with code 127" in output
    assert "module: command not found" in output


def test_a_refused_submission_is_told(job: LSFJob) -> None:
    output = predict(*job.arguments("a", "--queue", "nowhere"), code=2)
    assert "LSF does not accept the jobs of" in output
    assert "nowhere: No such queue. Job not submitted." in output


def test_the_run_after_a_crash_takes_over_the_jobs_that_are_left(cluster: LSF, job: LSFJob) -> None:
    job.pause(0.3)
    process = job.begin("a", "--workers", "8")
    until(lambda: job.blocks_done("a") >= 2)
    process.kill()
    process.wait()
    assert len(alive(cluster)) == 8
    output = job.ends_well("a", job.begin("a", "--workers", "5"))
    assert "8 jobs of the last run are still in the queue: taken over." in output
    assert len(cluster.submissions) == 1
