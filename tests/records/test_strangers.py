"""Run directories that somebody else owns or can write to, and links planted in them."""

from __future__ import annotations

import grp
import json
import os
import pwd
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from blockwise_predict.config.model import load_config
from blockwise_predict.engine.settings import PrecisionChoice
from blockwise_predict.errors import RunStateError
from blockwise_predict.fleet.jobs import JobRecord
from blockwise_predict.plan.make import make_plan
from blockwise_predict.records import RunDir
from blockwise_predict.records import files as module
from blockwise_predict.records.address import Address
from blockwise_predict.records.failures import Failure
from blockwise_predict.records.files import check_own
from blockwise_predict.records.ledger import State, records_of
from blockwise_predict.records.lock import hold_lock
from tests.run.test_run import Job
from tests.support.runs import predict

ONE_BLOCK = ("--roi", "[:160,:160,:160]")
ADDRESS = Address("host", "127.0.0.1", (), 7000, "key")

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be two users")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A job with a run that is complete."""
    job = Job(tmp_path_factory.mktemp("made"))
    predict(*job.arguments("a", *ONE_BLOCK))
    return job


@pytest.fixture
def job(made: Job) -> Iterator[Job]:
    """The complete run; its run directory is put back after the test."""
    run_dir, kept = made.run_dir("a"), made.folder / "kept"
    shutil.copytree(run_dir, kept)
    yield made
    shutil.rmtree(run_dir, ignore_errors=True)
    kept.rename(run_dir)


def commands(job: Job) -> dict[str, tuple[object, ...]]:
    """Every command that uses a run directory."""
    output = job.output("a")
    return {
        "run": tuple(job.arguments("a", *ONE_BLOCK)),
        "plan": ("plan", *job.options, "--output", output, *ONE_BLOCK),
        "overwrite": tuple(job.arguments("a", *ONE_BLOCK, "--overwrite")),
        "worker": ("worker", job.run_dir("a")),
        "verify": ("verify", output),
        "retry": ("retry", output),
        "logs": ("logs", output),
        "scale": ("scale", output, "3"),
    }


@pytest.mark.parametrize("name", ["run", "plan", "worker", "verify", "retry", "logs", "scale"])
def test_a_run_directory_that_others_can_write_to_is_refused(name: str, job: Job) -> None:
    run_dir = job.run_dir("a")
    run_dir.chmod(0o777)
    output = predict(*commands(job)[name], code=2)
    assert f"{run_dir} can be written by everybody (mode 0777, owner " in output
    assert f"chmod -R go-w {run_dir}" in output
    assert "--trust-run-dir" in output
    if name in ("run", "plan", "verify", "logs"):
        predict(*commands(job)[name], "--trust-run-dir")


@as_root
@pytest.mark.parametrize("name", ["run", "overwrite", "worker", "verify", "retry", "logs"])
def test_a_run_directory_of_somebody_else_is_refused(name: str, job: Job) -> None:
    run_dir = job.run_dir("a")
    before = sorted(run_dir.rglob("*"))
    nobody = pwd.getpwnam("nobody")
    os.chown(run_dir, nobody.pw_uid, nobody.pw_gid)
    output = predict(*commands(job)[name], code=2)
    assert f"{run_dir} belongs to nobody, not to you (root)" in output
    assert sorted(run_dir.rglob("*")) == before


@as_root
@pytest.mark.parametrize(
    ("record", "name"),
    [
        ("plan.json", "worker"),
        ("plan.json", "run"),
        ("identity.json", "run"),
        ("blocks-*.npy", "verify"),
        ("lock", "run"),
        ("failures.jsonl", "verify"),
        ("events.jsonl", "logs"),
        ("jobs.json", "run"),
        ("extension.json", "run"),
    ],
)
def test_a_record_of_somebody_else_is_refused(record: str, name: str, job: Job) -> None:
    """As in a folder that was swapped, from one above it, which others can write to."""
    run_dir = job.run_dir("a")
    file = next(run_dir.glob(record), run_dir / record)
    file.touch()
    os.chown(file, pwd.getpwnam("nobody").pw_uid, 0)
    assert f"{file} belongs to nobody" in predict(*commands(job)[name], code=2)
    os.chown(file, 0, 0)
    file.chmod(0o666)
    assert f"{file} can be written by everybody" in predict(*commands(job)[name], code=2)


@as_root
def test_what_others_left_is_not_taken_for_a_group_of_ones_own(job: Job) -> None:
    run_dir = job.run_dir("a")
    # root's own group, as with a umask of 002.
    run_dir.chmod(0o775)
    predict(*commands(job)["verify"])
    os.chown(run_dir, -1, pwd.getpwnam("nobody").pw_gid)
    group = grp.getgrgid(pwd.getpwnam("nobody").pw_gid).gr_name
    assert f"can be written by the group {group}" in predict(*commands(job)["verify"], code=2)


@pytest.mark.parametrize(
    ("group", "members", "primary", "refused"),
    [
        ("alice", [], 1000, False),
        ("alice", ["alice"], 1000, False),
        ("alice", ["bob"], 1000, True),
        ("lab", [], 1000, True),
        ("alice", [], 100, True),
    ],
)
def test_only_a_group_that_is_one_users_own_is_no_other(
    group: str, members: list[str], primary: int, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = SimpleNamespace(pw_name="alice", pw_gid=primary)
    monkeypatch.setattr(module.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(module.pwd, "getpwuid", lambda _: alice)
    found = SimpleNamespace(gr_name=group, gr_mem=members)
    monkeypatch.setattr(module.grp, "getgrgid", lambda _: found)
    status = os.stat_result((0o100664, 0, 0, 1, 1000, 1000, 0, 0, 0, 0))
    if refused:
        with pytest.raises(RunStateError, match=f"can be written by the group {group}"):
            check_own(status, Path("plan.json"))
    else:
        check_own(status, Path("plan.json"))


@pytest.mark.slow
def test_what_a_run_makes_only_its_owner_can_change(tmp_path: Path) -> None:
    job = Job(tmp_path)
    before = os.umask(0)
    try:
        # In a process of its own, which has this umask.
        predict(*job.arguments("u", *ONE_BLOCK), PREDICT_TEST="umask")
    finally:
        os.umask(before)
    run_dir = job.run_dir("u")
    made = [run_dir.parent, run_dir, *run_dir.rglob("*")]
    assert len(made) > 8
    assert {path.name for path in made if path.stat().st_mode & 0o022} == set()


def test_a_run_directory_may_be_reached_by_links(tmp_path: Path) -> None:
    job = Job(tmp_path)
    (tmp_path / "disk").mkdir()
    (tmp_path / "scratch").symlink_to(tmp_path / "disk")
    records = ("--run-dir", tmp_path / "scratch" / "records")
    predict(*job.arguments("l", *ONE_BLOCK, *records))
    predict("verify", job.output("l"), "--sample", "1")
    assert (tmp_path / "disk" / "records" / "plan.json").is_file()


def blank(plan: Any) -> Any:
    return records_of(np.zeros(plan.blocks_per_axis, np.uint8))


Writer = Callable[[RunDir, Any], object]


def _lock(run_dir: RunDir, _: Any) -> None:
    with hold_lock(run_dir.path / "lock", print):
        pass


def _set_block(run_dir: RunDir, plan: Any) -> None:
    with closing(run_dir.ledger(plan)) as ledger:
        ledger.set(0, State.DONE)


def _write_log(run_dir: RunDir, _: Any) -> None:
    with open(run_dir.open_log(0), "ab") as log:
        log.write(b"spoilt")


WRITERS: dict[str, Writer] = {
    "events.jsonl": lambda run_dir, _: run_dir.events.write("begin"),
    "failures.jsonl": lambda run_dir, _: run_dir.failures.add(Failure(0, "", 1, "", "", None)),
    "lock": _lock,
    "blocks": _set_block,
    "logs/worker-0000.log": _write_log,
    "logs": _write_log,
    "plan.json": lambda run_dir, plan: run_dir.record(plan, "predict run"),
    "identity.json": lambda run_dir, plan: run_dir.record(plan, "predict run"),
    "config.yaml": lambda run_dir, plan: run_dir.record(plan, "predict run"),
    "predict-run.json": lambda run_dir, plan: run_dir.record(plan, "predict run"),
    "server.json": lambda run_dir, _: run_dir.write_address(ADDRESS),
    "scale.json": lambda run_dir, _: run_dir.want_workers(3),
    "precision.json": lambda run_dir, _: run_dir.settle_precision(PrecisionChoice("float32")),
    "jobs.json": lambda run_dir, _: JobRecord(run_dir).begin("slurm", "predict-x", {}),
    "new ledger": lambda run_dir, plan: run_dir.replace_ledger(plan, blank(plan)),
}


def refusal(write: Callable[[], object]) -> str:
    """With what words something is refused; none if it is not."""
    try:
        write()
    except RunStateError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", WRITERS)
def test_no_link_in_a_run_directory_is_written_through(
    name: str, made: Job, tmp_path: Path
) -> None:
    options = dict(zip(made.options[::2], made.options[1::2], strict=True))
    given = {str(key)[2:].replace("-", "_"): str(value) for key, value in options.items()}
    config = load_config({**given, "output": made.output("a"), "roi": ONE_BLOCK[1]})
    plan = make_plan(config).plan
    run_dir = RunDir(tmp_path / "run")
    run_dir.record(plan, "predict run")
    target = tmp_path / "precious"
    if name == "logs":
        run_dir.logs.rmdir()
        target.mkdir()
        run_dir.logs.symlink_to(target)
    else:
        target.write_text('{"precious": 1}')
        file = run_dir.path / name
        if name in ("blocks", "new ledger"):
            file = run_dir.ledger_file(plan)
        file.unlink(missing_ok=True)
        file.symlink_to(target)
    before = target.stat().st_mtime_ns
    refused = refusal(lambda: WRITERS[name](run_dir, plan))
    assert not refused or "is a symbolic link" in refused
    assert target.stat().st_mtime_ns == before
    if name == "logs":
        assert not list(target.iterdir())
    else:
        assert target.read_text() == '{"precious": 1}'
        # Either it is said, or the link has made room for a file.
        assert refused or not file.is_symlink() or name == "predict-run.json"


@pytest.mark.parametrize("name", ["lock", "events.jsonl"])
def test_a_planted_link_is_told_of(name: str, job: Job) -> None:
    file, target = job.run_dir("a") / name, job.folder / f"precious-{name}"
    target.write_text("precious")
    file.unlink()
    file.symlink_to(target)
    command = commands(job)["logs" if name == "events.jsonl" else "run"]
    assert f"{file} is a symbolic link" in predict(*command, code=2)
    assert target.read_text() == "precious"


def test_a_pipe_in_a_run_directory_keeps_nobody_waiting(job: Job) -> None:
    (job.run_dir("a") / "jobs.json").unlink(missing_ok=True)
    os.mkfifo(job.run_dir("a") / "jobs.json")
    assert "jobs.json is not a regular file" in predict(*commands(job)["run"], code=2)


def test_damaged_records_are_no_traceback(job: Job) -> None:
    run_dir = job.run_dir("a")
    (run_dir / "failures.jsonl").write_bytes(b'{"block": 0, "roi": "\xff"}\n[1]\n{"block": [1]}\n')
    (run_dir / "events.jsonl").write_bytes(b'\xff\n[1]\n{"event": 3}\n{"event": "join"}\n')
    predict(*commands(job)["verify"])
    predict(*commands(job)["logs"])
    for text in ("{}", '{"queue": "slurm", "name": "*", "terms": {}, "ids": []}', "[" * 100_000):
        (run_dir / "jobs.json").write_text(text)
        assert "jobs.json is damaged" in predict(*commands(job)["run"], code=2)
    (run_dir / "jobs.json").unlink()
    (run_dir / "server.json").write_text(json.dumps({"host": 1, "hosts": 7}))
    assert "server.json is damaged" in predict(*commands(job)["scale"], code=2)
