"""How jobs are submitted to Slurm: the words, the environment, and the answer."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from blockwise_predict.config.model import load_config
from blockwise_predict.config.resources import resource_folder
from blockwise_predict.fleet import describe_fleet
from blockwise_predict.fleet.jobs import QUEUES
from blockwise_predict.fleet.queue import Request
from blockwise_predict.fleet.runner import CommandRunner
from blockwise_predict.records import RunDir
from tests.support.books import CONFIG


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
