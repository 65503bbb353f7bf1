"""What a fleet does when a queue answers late or not at all, and which jobs it gives up."""

from __future__ import annotations

import errno
import stat
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from blockwise_predict.config.model import load_config
from blockwise_predict.config.resources import resource_folder
from blockwise_predict.errors import ConfigError, RunFailedError, RunStateError
from blockwise_predict.fleet import cluster as cluster_module
from blockwise_predict.fleet import describe_fleet, job_settings
from blockwise_predict.fleet import job_failures as job_failures_module
from blockwise_predict.fleet import job_table as job_table_module
from blockwise_predict.fleet import jobs as jobs_module
from blockwise_predict.fleet import queue as queue_module
from blockwise_predict.fleet.cluster import ClusterFleet
from blockwise_predict.fleet.job_failures import JobFailures
from blockwise_predict.fleet.job_table import TrackedJob
from blockwise_predict.fleet.jobs import QUEUES, JobRecord, cancel_leftovers
from blockwise_predict.fleet.log_tail import log_tail
from blockwise_predict.fleet.queue import Job, Request, State
from blockwise_predict.fleet.restarts import FRUITLESS_EXTRA, FRUITLESS_PER_WORKER
from blockwise_predict.fleet.runner import CommandRunner, QueueError
from blockwise_predict.records import RunDir
from blockwise_predict.scheduling.members import Changes, Membership, Registration
from tests.support.runs import until


def patient() -> bool:
    """Nobody is in a hurry."""
    return False


CONFIG = {"checkpoint": "c", "input": "i.zarr/r", "output": "o.zarr/a", "fleet": "slurm"}


class Book:
    """A queue whose jobs are as the test says: `refuses` all, or `loses` the answer to sbatch."""

    name = "Book"
    commands = ()

    def cancel_command(self, name: str) -> list[str]:
        return ["cancel", name]

    def __init__(self) -> None:
        self.states: dict[str, Job] = {}
        self.refuses: str | None = None
        self.loses = False
        self.submitted = 0
        self.cancelled: list[list[str]] = []
        # Whether it does not answer, and whether somebody waits for that.
        self.hanging, self.waiting = threading.Event(), threading.Event()

    def check(self, _: Request) -> str | None:
        return None

    def submit(self, request: Request) -> str:
        if self.refuses:
            raise QueueError(self.refuses)
        self.submitted += 1
        for key in self.keys(str(self.submitted), request.count):
            self.set(key, State.WAITING)
        if self.loses:
            raise QueueError("Socket timed out on send/recv operation")
        return str(self.submitted)

    def keys(self, job: str, count: int) -> list[str]:
        return [f"book-{job}_{index}" for index in range(count)]

    def set(self, key: str, state: State, what: str = "", *, blameless: bool = False) -> None:
        self.states[key] = Job(key, state, what or state.name, "n1", blameless)

    def jobs(self, _: str) -> list[Job]:
        while self.hanging.is_set():
            self.waiting.set()
            time.sleep(0.01)
        if self.refuses:
            raise QueueError(self.refuses)
        return list(self.states.values())

    def cancel(self, keys: Sequence[str]) -> None:
        if self.refuses:
            raise QueueError(self.refuses)
        self.cancelled.append(list(keys))
        for key in keys:
            self.set(key, State.ENDED, "CANCELLED", blameless=True)

    def cancel_all(self, _: str) -> None:
        self.cancel([key for key, job in self.states.items() if job.state is not State.ENDED])


class Stage:
    """A fleet over a book, and what the user was told."""

    def __init__(self, folder: Path, size: int, **options: object) -> None:
        self.book = Book()
        self.told: list[str] = []
        self.released: set[int] = set()
        self.gone: set[int] = set()
        self.membership = Membership()
        (folder / "logs").mkdir()
        config = load_config({**CONFIG, "workers": size, **options})
        request = Request(folder / "s", "predict-x", size, folder / "logs", config, {})
        self.record = JobRecord(RunDir(folder))
        self.record.begin("slurm", "predict-x", {})
        self.fleet = ClusterFleet(lambda _: self.book, request, self.record, self.told.append)
        self.fleet.start(patient)

    def look(self, times: int = 3) -> None:
        """Let the fleet ask the queue so often."""
        for _ in range(2 * times):
            changes = self.fleet.check(self.membership)
            self.released.update(changes.leaving)
            self.gone.update(changes.gone)
            time.sleep(0.02)

    def join(self, number: int, key: str) -> None:
        """A job runs, and its worker joins."""
        self.book.set(key, State.RUNNING)
        self.membership = self.membership.with_worker(number, key, time.monotonic())

    def leave(self, number: int) -> None:
        """A worker's connection ends."""
        self.membership = self.membership.without_worker(number)

    def alive(self) -> list[str]:
        return [key for key, job in self.book.states.items() if job.state is not State.ENDED]


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "POLL_S", 0.0)
    monkeypatch.setattr(cluster_module, "RESUBMIT_S", 0.0)
    monkeypatch.setattr(job_failures_module, "FIRST_DELAY_S", 0.0)


def test_jobs_that_wait_are_left_alone_and_ended_ones_replaced(tmp_path: Path) -> None:
    stage = Stage(tmp_path, 3)
    stage.look()
    assert stage.book.submitted == 1
    for index in range(3):
        stage.join(index, f"book-1_{index}")
    stage.book.set("book-1_1", State.ENDED, "NODE_FAIL", blameless=True)
    stage.look()
    assert stage.alive() == ["book-1_0", "book-1_2", "book-2_0"]
    assert stage.told == ["job book-1_1 on n1 ended (NODE_FAIL); another one is submitted."]
    # One that is put into the queue again counts again, and what is too much is cancelled.
    stage.book.set("book-1_1", State.WAITING)
    stage.look()
    assert stage.fleet.alive == 3
    assert stage.book.submitted == 2
    assert stage.record.read()["ids"] == ["1", "2"]
    stage.fleet.kill(patient)
    assert stage.alive() == []
    assert stage.record.read() is None


def test_a_job_that_vanishes_from_the_queue_is_replaced(tmp_path: Path) -> None:
    stage = Stage(tmp_path, 1)
    stage.look()
    del stage.book.states["book-1_0"]
    stage.look()
    assert stage.alive() == ["book-2_0"]


def test_one_that_was_never_seen_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A queue may need a moment until it lists what was submitted."""
    with monkeypatch.context() as patch:
        patch.setattr(Book, "jobs", lambda *_: [])
        stage = Stage(tmp_path, 1)
        stage.look()
    stage.book.states.clear()
    stage.look()
    assert stage.book.submitted == 1
    monkeypatch.setattr(job_table_module, "APPEARANCE_S", 0.0)
    stage.look()
    assert stage.book.submitted > 1


def test_a_job_that_runs_and_does_not_join_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(tmp_path, 2)
    stage.book.set("book-1_0", State.RUNNING)
    monkeypatch.setattr(cluster_module, "JOIN_TIMEOUT_S", 0.05)
    stage.look(5)
    assert stage.book.states["book-1_0"].what == "CANCELLED"
    assert stage.book.states["book-1_1"].state is State.WAITING
    assert "job book-1_0 on n1 did not join within" in stage.told[0]


def test_a_queue_that_does_not_answer_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(tmp_path, 2)
    stage.look()
    stage.book.set("book-1_0", State.ENDED, "NODE_FAIL", blameless=True)
    stage.look()
    stage.book.refuses = "slurm_load_jobs error: Unable to contact slurm controller"
    monkeypatch.setattr(cluster_module, "SILENCE_WARNING_S", 0.05)
    stage.look(5)
    stage.book.set("book-1_1", State.ENDED, "FAILED")
    stage.book.refuses = None
    stage.look(5)
    assert len(stage.alive()) == 2
    silences = [text for text in stage.told if "does not answer" in text]
    assert len(silences) == 1
    assert "Unable to contact slurm controller. Workers go on." in silences[0]


def test_a_queue_that_takes_no_jobs_is_asked_again_and_stops_a_run_without_workers_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(tmp_path, 1)
    stage.look()
    submit = stage.book.submit

    def refuse(_: Request) -> str:
        raise QueueError("QOSMaxSubmitJobPerUserLimit")

    monkeypatch.setattr(stage.book, "submit", refuse)
    stage.book.set("book-1_0", State.ENDED, "PREEMPTED", blameless=True)
    stage.look()
    assert "Book takes no jobs now: QOSMaxSubmitJobPerUserLimit" in stage.told
    monkeypatch.setattr(stage.book, "submit", submit)
    stage.look()
    assert len(stage.alive()) == 1
    monkeypatch.setattr(stage.book, "submit", refuse)
    monkeypatch.setattr(cluster_module, "REFUSAL_LIMIT_S", 0.0)
    stage.book.cancel_all("")
    with pytest.raises(RunFailedError, match="takes no jobs, and none is left"):
        stage.look(10)


def test_a_first_submission_that_is_refused_is_the_users_mistake(tmp_path: Path) -> None:
    stage = Stage(tmp_path, 1)
    stage.book.cancel_all("")
    stage.book.refuses = "invalid account"
    with pytest.raises(ConfigError, match="invalid account"):
        stage.fleet.start(patient)


def test_scaling_cancels_what_waits_first(tmp_path: Path) -> None:
    stage = Stage(tmp_path, 4)
    stage.join(0, "book-1_0")
    stage.join(1, "book-1_1")
    stage.book.set("book-1_2", State.RUNNING)
    stage.look()
    assert stage.fleet.scale(2, stage.membership).leaving == ()
    stage.look()
    assert stage.alive() == ["book-1_0", "book-1_1"]
    (leaving,) = stage.fleet.scale(1, stage.membership).leaving
    stage.look()
    assert stage.fleet.alive == 1
    assert stage.book.submitted == 1
    # It is told until it goes.
    assert stage.released == {leaving}
    stage.book.set(stage.membership.workers[leaving].job, State.ENDED, "COMPLETED")
    stage.leave(leaving)
    stage.look()
    assert stage.fleet.scale(3, stage.membership).leaving == ()
    stage.look()
    assert stage.fleet.alive == 3
    assert stage.told == []


def test_jobs_that_are_too_many_are_cancelled_until_they_are_gone(tmp_path: Path) -> None:
    stage = Stage(tmp_path, 3)
    stage.join(0, "book-1_0")
    stage.join(1, "book-1_1")
    stage.look()
    # One was put into the queue again, the queue does not hear of the other, and one hangs.
    stage.leave(0)
    stage.book.set("book-1_0", State.WAITING)
    stage.look()
    stage.book.refuses = "timed out"
    assert stage.fleet.scale(0, stage.membership).leaving == (1,)
    assert len(stage.alive()) == 3
    stage.book.refuses = None
    stage.look()
    assert stage.alive() == ["book-1_1"]
    stage.leave(1)
    stage.fleet.end_workers([1], stage.membership)
    stage.look()
    assert stage.alive() == []
    stage.look()
    assert stage.book.submitted == 1


def test_a_submission_that_was_not_answered_may_have_been_taken(tmp_path: Path) -> None:
    stage = Stage(tmp_path, 2)
    stage.look()
    stage.book.set("book-1_0", State.ENDED, "NODE_FAIL", blameless=True)
    stage.book.loses = True
    stage.look(5)
    assert stage.alive() == ["book-1_1", "book-2_0"]
    assert "Book takes no jobs now: Socket timed out on send/recv operation" in stage.told


def test_a_job_that_is_ending_for_long_and_comes_back_is_not_counted_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(tmp_path, 2)
    stage.look()
    for index in range(2):
        stage.book.set(f"book-1_{index}", State.ENDING, "COMPLETING")
    stage.look()
    assert stage.book.submitted == 1
    stage.book.set("book-1_0", State.WAITING)
    stage.look()
    monkeypatch.setattr(job_table_module, "END_TIMEOUT_S", 0.0)
    stage.look()
    # Only what still hangs is replaced, and it is nobody's fault.
    assert stage.alive() == ["book-1_0", "book-1_1", "book-2_0"]
    stage.book.set("book-1_1", State.WAITING)
    stage.look()
    assert len(stage.alive()) == 2
    assert len(stage.told) == 1
    assert "(COMPLETING); another one is submitted" in stage.told[0]


def test_no_more_than_the_throttle_run(tmp_path: Path) -> None:
    """Each array has a limit of its own, so replacements wait until that one cannot be exceeded."""
    stage = Stage(tmp_path, 5, throttle=2)
    for index in range(5):
        stage.look()
        assert stage.book.submitted == max(1, index - 2)
        stage.book.set(f"book-1_{index}", State.ENDED, "TIMEOUT")
        membership = stage.membership.with_worker(index, f"book-1_{index}", time.monotonic())
        stage.membership = replace(membership.without_worker(index), done=index + 1)
    stage.look()
    assert stage.alive() == ["book-2_0", "book-3_0"]


def test_jobs_that_are_held_are_told_of(tmp_path: Path) -> None:
    stage = Stage(tmp_path, 2)
    key = "book-1_0"
    reason = "launch failed requeued held"
    stage.book.states[key] = Job(key, State.WAITING, "PENDING", held=reason)
    stage.look()
    assert stage.told == [
        "1 jobs are held, and wait until somebody releases them: book-1_0 "
        "(launch failed requeued held)"
    ]


def test_workers_that_cannot_know_their_job_are_not_taken_for_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a container without the job's environment, say."""
    stage = Stage(tmp_path, 1)
    stage.book.set("book-1_0", State.RUNNING)
    monkeypatch.setattr(cluster_module, "JOIN_TIMEOUT_S", 0.05)
    stage.membership = Membership({0: Registration("", time.monotonic(), False)})
    stage.look(5)
    assert stage.alive() == ["book-1_0"]


@pytest.mark.parametrize("failing", ["jobs", "cancel_all"])
def test_cancelling_does_not_give_up_at_the_first_error(
    failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_module, "CANCEL_POLL_S", 0.0)
    stage = Stage(tmp_path, 2)
    stage.look()
    answers = iter([True, True, False])
    working = getattr(stage.book, failing)

    def sometimes(name: str) -> list[Job] | None:
        if next(answers, False):
            raise QueueError("Socket timed out on send/recv operation")
        return working(name)

    monkeypatch.setattr(stage.book, failing, sometimes)
    stage.fleet.kill(patient)
    assert stage.alive() == []
    assert stage.record.read() is None
    assert stage.told == []


def test_jobs_are_left_to_a_run_that_has_taken_over(tmp_path: Path) -> None:
    stage = Stage(tmp_path, 2)
    stage.look()
    stage.fleet.abandon()
    assert len(stage.alive()) == 2
    assert stage.record.read() is not None


def test_leftovers_that_cannot_be_cancelled_are_not_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_module, "CANCEL_TIMEOUT_S", 0.0)
    stage = Stage(tmp_path, 2)
    monkeypatch.setitem(QUEUES, "book", lambda _: stage.book)
    stage.record.begin("book", "predict-old", {"fleet": "slurm"})
    stage.book.refuses = "no contact"
    told: list[str] = []
    run_dir = RunDir(tmp_path)
    cancel_leftovers(run_dir, None, told.append, patient, keep=True)
    assert "may still be in Book's queue, under the name predict-old, and cannot be" in told[0]
    with pytest.raises(RunStateError, match=r"(?s)predict-old.*remove .*jobs\.json, and run this"):
        cancel_leftovers(run_dir, {"fleet": "slurm"}, told.append, patient, keep=False)
    cancel_leftovers(run_dir, {"fleet": "slurm"}, told.append, patient, keep=True)
    assert len(stage.alive()) == 2
    stage.book.refuses = None
    cancel_leftovers(run_dir, None, told.append, patient, keep=True)
    assert told[1:] == ["jobs of the last run, named predict-old, are cancelled."]
    assert stage.alive() == []
    assert stage.record.read() is None


def test_what_is_taken_over_was_submitted_with_the_same_script(tmp_path: Path) -> None:
    script = tmp_path / "site.sbatch"
    script.write_text("#!/bin/sh\nexit 1\n")
    config = load_config({**CONFIG, "fleet": str(script)})
    before = job_settings(config)
    assert before == job_settings(config)
    script.write_text("#!/bin/sh\nexec predict worker\n")
    assert job_settings(config) != before


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
    assert "3 consecutive jobs failed to start a worker, while others work. New" in ends.told[1]
    assert delay == 120
    # Also while those that work need long for a block.
    for _ in range(50):
        ends(job("slurm-1_1"))
    # Those that worked have gone, and nothing is done any more.
    ends.membership = ends.membership.without_worker(0)
    with pytest.raises(RunFailedError, match="71 consecutive jobs failed to start a worker"):
        ends(job("slurm-1_1"))


def test_bad_luck_is_borne_but_not_for_ever(tmp_path: Path) -> None:
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


def test_no_log_is_said_so(tmp_path: Path) -> None:
    assert log_tail(tmp_path, "slurm-1_1") == f"It left no log in {tmp_path}."


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("123\n", "123"),
        ("123;cluster\n", "123"),
        ("*** Welcome to the cluster\nmaintenance on 24 December\n77\n", "77"),
    ],
)
def test_a_job_id_is_found_beside_what_a_site_says(
    said: str, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sbatch = tmp_path / "sbatch"
    sbatch.write_text(f"#!/bin/sh\ncat <<'EOF'\n{said}EOF\nenv | grep SLURM_ >&2\nexit 0\n")
    sbatch.chmod(sbatch.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    request = Request(tmp_path / "s", "x", 1, tmp_path, load_config(CONFIG), {})
    assert QUEUES["slurm"](CommandRunner()).submit(request) == found


def test_the_plan_shows_how_jobs_are_submitted(tmp_path: Path) -> None:
    given = {**CONFIG, "workers": 4, "queue": "my gpus", "gpus": 0}
    assert describe_fleet(load_config(given), RunDir(tmp_path)) == (
        "4 as jobs of Slurm: sbatch --parsable --job-name=predict-... --array=0-3 --export=ALL "
        f"--output={tmp_path}/logs/slurm-%A_%a-%N.log --open-mode=append '--partition=my gpus' "
        f"--gpus-per-task=0 {resource_folder('workers')}/slurm.sbatch"
    )
    given = {**CONFIG, "fleet": "ssh n{number}"}
    assert describe_fleet(load_config(given), RunDir(tmp_path)) == "1 each by: ssh n{number}"


def test_what_is_asked_for_reaches_sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        **CONFIG,
        **{"queue": "gpu", "project": "em", "gpus": 2, "cores": 8, "job_memory": "32GiB"},
        **{"wall_time": "1d12h", "throttle": 4, "submit_options": "--qos long", "workers": 12},
    }
    sbatch = tmp_path / "sbatch"
    sbatch.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" >{tmp_path}/words\nenv >{tmp_path}/env\necho 1\n'
    )
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    # A scheduler that is a job itself passes on none of what describes that job.
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "100")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    logs = tmp_path / "100%"
    request = Request(tmp_path / "s", "x", 12, logs, load_config(given), {"PREDICT_LOGS": "/l"})
    QUEUES["slurm"](CommandRunner()).submit(request)
    assert (tmp_path / "words").read_text().splitlines() == [
        *("--parsable", "--job-name=x", "--array=0-11%4", "--export=ALL"),
        *(f"--output={tmp_path}/100%%/slurm-%A_%a-%N.log", "--open-mode=append"),
        *("--partition=gpu", "--account=em", "--gpus-per-task=2", "--cpus-per-task=8"),
        *("--mem=32768M", "--time=36:00:00", "--qos", "long", str(tmp_path / "s")),
    ]
    environment = (tmp_path / "env").read_text().splitlines()
    assert "PREDICT_LOGS=/l" in environment
    assert "SLURM_CONF=/etc/slurm.conf" in environment
    assert not [line for line in environment if line.startswith("SLURM_MEM")]


def test_a_hundred_lost_workers_are_cancelled_by_one_command(tmp_path: Path) -> None:
    stage = Stage(tmp_path, 100)
    for number in range(100):
        stage.join(number, f"book-1_{number}")
    stage.look()
    for number in range(100):
        stage.leave(number)
    before = time.monotonic()
    stage.fleet.end_workers(range(100), stage.membership)
    assert time.monotonic() - before < 0.1
    until(lambda: stage.look(1) is None and stage.book.submitted == 2)
    assert stage.book.cancelled == [[f"book-1_{number}" for number in range(100)]]
    assert len(stage.alive()) == 100


def test_a_queue_that_hangs_holds_nothing_up(tmp_path: Path) -> None:
    stage = Stage(tmp_path, 2)
    stage.join(0, "book-1_0")
    stage.look()
    stage.book.hanging.set()
    until(lambda: stage.look(1) is None and stage.book.waiting.is_set())
    before = time.monotonic()
    stage.fleet.scale(1, stage.membership)
    stage.fleet.end_workers([0], stage.membership)
    stage.fleet.drain(stage.membership)
    assert stage.fleet.check(stage.membership) == Changes()
    assert time.monotonic() - before < 0.1
    stage.book.hanging.clear()
    until(lambda: stage.look(1) is None and not stage.alive())


def test_workers_whose_jobs_have_ended_are_gone_though_their_connections_linger(
    tmp_path: Path,
) -> None:
    stage = Stage(tmp_path, 3)
    for number in range(3):
        stage.join(number, f"book-1_{number}")
    stage.look()
    assert not stage.gone
    stage.book.set("book-1_1", State.ENDED, "NODE_FAIL", blameless=True)
    stage.look()
    assert stage.gone == {1}


def test_jobs_that_end_with_their_workers_are_not_cancelled(tmp_path: Path) -> None:
    stage = Stage(tmp_path, 2)
    stage.join(0, "book-1_0")
    stage.join(1, "book-1_1")
    stage.look()
    ended = iter([0, 1])

    def membership() -> Membership:
        """One worker after the other leaves, and its job ends a moment later."""
        if (number := next(ended, None)) is not None:
            stage.leave(number)
            key = f"book-1_{number}"
            threading.Timer(0.5, stage.book.set, (key, State.ENDED, "COMPLETED")).start()
        return stage.membership

    stage.fleet.finish(membership, patient)
    stage.fleet.kill(patient)
    assert {job.what for job in stage.book.states.values()} == {"COMPLETED"}


def test_a_full_disk_when_a_job_is_replaced_ends_the_run_with_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(tmp_path, 1)
    stage.join(0, "book-1_0")
    stage.look()

    def full(file: Path, *_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(file))

    monkeypatch.setattr(jobs_module, "write_atomically", full)
    stage.book.set("book-1_0", State.ENDED, "TIMEOUT")
    with pytest.raises(RunFailedError, match=r"be written: .*No space left.*jobs\.json"):
        until(lambda: stage.look(1) is not None)
    # It cannot be written, but read and removed: nothing is left behind.
    stage.fleet.kill(patient)
    assert stage.alive() == []
    assert stage.record.read() is None


@pytest.mark.parametrize(
    "text",
    ["{}", "[]", "{", '{"queue": "nowhere", "name": "x", "terms": {}}', '{"queue": "slurm"}'],
)
def test_a_damaged_record_of_jobs_is_told_as_such(text: str, tmp_path: Path) -> None:
    (tmp_path / "jobs.json").write_text(text)
    with pytest.raises(RunStateError, match=r"jobs\.json is damaged \(.*\): jobs of the"):
        cancel_leftovers(RunDir(tmp_path), None, print, patient, keep=False)
