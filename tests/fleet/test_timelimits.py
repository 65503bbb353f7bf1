"""Time limits that leave jobs no time to work are told before anything is submitted."""

from __future__ import annotations

from pathlib import Path

import pytest

from blockwise_predict.config.model import load_config
from blockwise_predict.config.resources import resource_folder
from blockwise_predict.errors import ConfigError
from blockwise_predict.fleet.jobs import QUEUES
from blockwise_predict.fleet.queue import Request
from blockwise_predict.fleet.runner import CommandRunner
from blockwise_predict.fleet.timelimits import (
    TimeLimit,
    check_time_limit,
    lsf_seconds,
    slurm_seconds,
)
from tests.support.jobs import Job
from tests.support.runs import predict

SLURM, LSF = "slurm.sbatch", "lsf.bsub"


def limit(script: Path, kind: str, **options: object) -> TimeLimit | None:
    """The time limit of jobs by a script."""
    given = {"checkpoint": "c", "input": "i.zarr/r", "output": "o.zarr/a", "fleet": kind}
    config = load_config({**given, **options})
    request = Request(script, "predict-x", 1, script.parent, config, {})
    return QUEUES[kind](CommandRunner()).time_limit(request)


def told(found: TimeLimit | None) -> list[str]:
    """What the user is warned of. Raises ConfigError."""
    warnings: list[str] = []
    check_time_limit(found, warnings.append)
    return warnings


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1", 60),
        ("90:30", 5430),
        ("08:00:00", 28800),
        ("1-0", 86400),
        ("1-12:30", 131400),
        ("2-00:00:01", 172801),
        ("UNLIMITED", None),
        ("0", None),
    ],
)
def test_times_as_slurm_writes_them(text: str, seconds: int | None) -> None:
    assert slurm_seconds(text) == seconds


@pytest.mark.parametrize(("text", "seconds"), [("8:00", 28800), ("30/hosta", 1800), ("x", None)])
def test_times_as_lsf_writes_them(text: str, seconds: int | None) -> None:
    assert lsf_seconds(text) == seconds


@pytest.mark.parametrize(
    ("options", "wall", "warning"),
    [
        ({}, 28800, 120),
        ({"wall_time": "1h"}, 3600, 120),
        ({"wall_time": "1h", "submit_options": "-t 5 --signal=TERM"}, 300, 60),
        ({"submit_options": "--time 1-0 --signal B:USR1@30"}, 86400, 30),
    ],
)
def test_what_holds_for_slurm(options: dict[str, object], wall: int, warning: int) -> None:
    found = limit(resource_folder("workers") / SLURM, "slurm", **options)
    assert found is not None
    assert (found.wall, found.warning) == (wall, warning)
    assert told(found) == []


@pytest.mark.parametrize(
    ("options", "wall", "warning"),
    [
        ({}, 28800, 120),
        ({"wall_time": "1h"}, 3600, 120),
        ({"wall_time": "1h", "submit_options": "-W 10 -wt 1"}, 600, 60),
    ],
)
def test_what_holds_for_lsf(options: dict[str, object], wall: int, warning: int) -> None:
    found = limit(resource_folder("workers") / LSF, "lsf", **options)
    assert found is not None
    assert (found.wall, found.warning) == (wall, warning)
    assert told(found) == []


def test_scripts_that_ask_for_no_signal_are_left_alone(tmp_path: Path) -> None:
    script = tmp_path / "site.sbatch"
    script.write_text("#!/bin/sh\n#SBATCH --comment='it's odd\nexec predict worker\n")
    assert limit(script, "slurm", wall_time="1m") is None
    assert told(None) == []


def test_a_time_that_is_up_before_jobs_begin_is_refused(tmp_path: Path) -> None:
    job = Job(tmp_path)
    output = predict(*job.arguments("a", "--fleet", "slurm", "--wall-time", "1m"), code=2)
    assert "--wall-time 00:01:00: that is 60 s, and jobs are told to end 120 s before" in output
    assert "(--signal=B:TERM@120, see " in output
    assert "with --submit-options '--signal=B:TERM@15'." in output
    assert not job.run_dir("a").exists()
    output = predict(*job.arguments("a", "--fleet", "lsf", "--wall-time", "2m"), code=2)
    assert "--wall-time 00:02:00: that is 120 s, and jobs are told to end 120 s before" in output
    assert "with --submit-options '-wt 1'." in output


def test_a_time_that_leaves_little_is_warned_of() -> None:
    script = resource_folder("workers") / SLURM
    (warning,) = told(limit(script, "slurm", wall_time="4m"))
    assert "--wall-time 00:04:00: that is 240 s" in warning
    assert "120 s are left to start and work." in warning
    own = limit(script, "slurm", wall_time="4m", submit_options="--signal=B:TERM@20")
    assert told(own) == []
    with pytest.raises(ConfigError, match="so they would end before they do anything"):
        told(limit(script, "slurm", submit_options="--time=2"))
