"""What `-q` and `-v` show of a command, and what nobody sees: remarks of libraries."""

from __future__ import annotations

import logging
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from blockwise_predict.cli import predict as group
from blockwise_predict.fleet.runner import CommandRunner
from tests.support.jobs import SMALL, Job
from tests.support.runs import predict


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    return Job(tmp_path_factory.mktemp("job"))


def test_quiet_shows_the_last_line(job: Job) -> None:
    run = job.arguments("q", *SMALL)
    output = job.output("q")
    assert re.fullmatch(rf"Done: {output} holds all 2 blocks of \S+ nm\.\n", predict(*run, "-q"))
    # Whatever is wrong is shown all the same.
    said = predict(*run, "--quiet", "--tile-shape", "1,1,1", code=2)
    assert said.startswith("Error: ")
    assert predict("pyramid", output, "-q") == ""
    assert predict("verify", output, "-q").startswith("2 blocks: 2 complete.\n")


def test_verbose_shows_workers_and_how_they_are_started(job: Job) -> None:
    chunk = Path(job.input) / "0.0.0"
    kept = chunk.with_suffix(".kept")
    shutil.move(chunk, kept)
    chunk.write_bytes(b"damaged")
    try:
        run = job.arguments("v", *SMALL, "--retries", 0)
        lines = predict(*run, "-v", code=1).splitlines()
    finally:
        shutil.move(kept, chunk)
    shown = [line for line in lines if re.match(r"worker \d|block \d", line)]
    assert re.match(r"worker 0 is started: .*python\S* -m blockwise_predict worker ", shown[0])
    assert re.match(r"worker 0 joined \(.*cpu, ", shown[1])
    assert any(re.match(r"block 0 failed on worker 0: .*0\.0\.0", line) for line in shown)
    assert any(line.startswith("block 0 is given up: ") for line in shown)
    assert shown[-1].startswith("worker 0 left")


def test_one_of_them_at_a_time() -> None:
    result = CliRunner().invoke(group, ["verify", "-q", "-v", "out"])
    assert (result.exit_code, "--quiet and --verbose exclude each other" in result.output) == (
        2,
        True,
    )


def test_commands_of_a_queue_are_shown_too(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "blockwise_predict")
    CommandRunner()(["echo", "a b"])
    assert caplog.messages == ["running echo 'a b'"]


@pytest.mark.parametrize("name", ["run", "retry", "verify", "pyramid", "convert", "demo"])
def test_the_commands_that_have_them(name: str) -> None:
    options = {option for p in group.commands[name].params for option in p.opts}
    assert {"-q", "--quiet", "-v", "--verbose"} <= options


# Every line that a run may print, as regular expressions.
KNOWN = (
    r"\d+/\d+ blocks.*",
    r"Precision .*\.",
    r"Devices computed: .* of the time after the first block\.",
    r"Done: .*",
    r"Warning: .*",
)


@pytest.mark.slow
def test_libraries_say_nothing_on_a_users_terminal(job: Job, tmp_path: Path) -> None:
    """Also with empty caches, and where chunks of the input are missing."""
    chunk = Path(job.input) / "0.0.1"
    kept = chunk.with_suffix(".kept")
    shutil.move(chunk, kept)
    try:
        caches = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
        # A real interpreter: forks have imported everything before.
        said = predict(*job.arguments("n", *SMALL), "--precision", "auto", **caches)
    finally:
        shutil.move(kept, chunk)
    assert [line for line in said.splitlines() if not re.fullmatch("|".join(KNOWN), line)] == []
