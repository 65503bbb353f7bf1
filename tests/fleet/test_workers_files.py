"""The files that start workers elsewhere, as far as they can be checked here."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from blockwise_predict.cli.workers import KINDS
from tests.support.runs import predict
from tests.support.shared import ROOT

WORKERS = ROOT / "workers"


def test_list_and_copy_hand_them_out(tmp_path: Path) -> None:
    listed = predict("workers", "list")
    for kind, (name, _) in KINDS.items():
        assert re.search(rf"^{kind} +{re.escape(name)} ", listed, re.MULTILINE)
        assert (WORKERS / name).is_file()
    assert {name for name, _ in KINDS.values()} == {file.name for file in WORKERS.iterdir()}
    predict("workers", "copy", "slurm", tmp_path)
    copied = tmp_path / "slurm.sbatch"
    assert copied.read_text() == (WORKERS / "slurm.sbatch").read_text()
    output = predict("workers", "copy", "slurm", tmp_path, code=2)
    assert f"{copied} exists. Give another name, or remove it first." in output
    assert "is not a folder" in predict(
        "workers", "copy", "lsf", tmp_path / "no" / "x.bsub", code=2
    )
    output = predict("workers", "copy", "pbs", code=2)
    assert "'pbs' is not one of 'slurm', 'lsf'" in output


@pytest.mark.parametrize("name", ["slurm.sbatch", "lsf.bsub", "local.sh"])
def test_scripts_are_sound(name: str) -> None:
    subprocess.run(["bash", "-n", WORKERS / name], check=True)
    if shutil.which("shellcheck") is None:
        pytest.skip("needs shellcheck (apt-get install shellcheck)")
    subprocess.run(["shellcheck", WORKERS / name], check=True)


def test_the_kubernetes_job_is_valid() -> None:
    job = yaml.safe_load((WORKERS / "kubernetes.yaml").read_text())
    kubernetes_validate.validate(job, "1.30", strict=True)
    assert job["spec"]["completionMode"] == "Indexed"
    pod = job["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > 10
    assert pod["containers"][0]["command"][:2] == ["predict", "worker"]
    options = predict("worker", "--help")
    for word in pod["containers"][0]["command"][3:]:
        assert word.split("=")[0] in options


@pytest.mark.parametrize("name", ["Dockerfile", "apptainer.def"])
def test_images_take_what_is_there(name: str) -> None:
    text = (WORKERS / name).read_text()
    copied = re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE)
    copied += re.findall(r"^    (\S+) /src/\S+$", text, re.MULTILINE)
    files = {word for line in copied for word in line.split()}
    assert files == {
        *("pyproject.toml", "constraints.txt", "README.md", "LICENSE"),
        *("blockwise_predict", "workers", "configs"),
    }
    assert all((ROOT / file).exists() for file in files)
    assert re.search(r"^torch==\S+$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    known = {"FROM", "WORKDIR", "COPY", "RUN", "ENV", "ENTRYPOINT", "&&"}
    if name == "Dockerfile":
        code = [line.split()[0] for line in text.splitlines() if line and line[0] != "#"]
        assert set(code) <= known
