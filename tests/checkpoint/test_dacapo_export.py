"""DaCapo's export to bioimage.io, written with bioimageio.spec, held to its own test tensors."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from blockwise_predict.checkpoint import UNetModel, open_checkpoint
from blockwise_predict.errors import CheckpointError
from tests.support.families import EXPORT, NEWER_UNET, recorded


def unpacked(folder: Path) -> Path:
    with zipfile.ZipFile(EXPORT) as archive:
        archive.extractall(folder / "package")
    return folder / "package"


def edit_description(package: Path, edit: Callable[[dict], None]) -> None:
    file = package / "rdf.yaml"
    description = yaml.safe_load(file.read_text())
    edit(description)
    file.write_text(yaml.safe_dump(description))


def test_an_archive_and_a_folder_are_opened_as_data(tmp_path: Path) -> None:
    network = recorded("dacapo_newer")
    hashes = set()
    for path in (EXPORT, unpacked(tmp_path)):
        model = open_checkpoint(path)
        assert isinstance(model, UNetModel)
        assert model.channel_names == ("ecs", "pm")
        assert model.shapes.scale == (2, 2)
        assert model.record["family"].startswith("DaCapo's bioimage.io export: ")
        hashes.add(model.sha256)
        with torch.inference_mode():
            output = model.build()(torch.from_numpy(network.input)).sigmoid().numpy()
        # The same weights as the run's, where a sigmoid follows.
        np.testing.assert_allclose(output, network.output, atol=1e-5)
    assert len(hashes) == 1


def test_a_network_that_does_not_reproduce_the_test_tensors_is_refused(tmp_path: Path) -> None:
    package = unpacked(tmp_path)
    file = package / "output_test_image.npy"
    output = np.load(file)
    output[0, 0, 3, 3] += 0.5 * np.abs(output).max()
    np.save(file, output)
    with pytest.raises(CheckpointError, match=r"differs by up to 0\.\d+ of"):
        open_checkpoint(package)


def test_settings_that_leave_no_trace_in_tensors_are_caught_by_the_test_tensors(
    tmp_path: Path,
) -> None:
    package = unpacked(tmp_path)

    def change(description: dict) -> None:
        architecture = description["weights"]["pytorch_state_dict"]["architecture"]
        architecture["kwargs"]["config_yaml"]["architecture_config"]["activation"] = "ELU"

    edit_description(package, change)
    with pytest.raises(CheckpointError, match="does not reproduce its package's test tensors"):
        open_checkpoint(package)


def test_the_toolboxs_form_of_the_configuration(tmp_path: Path) -> None:
    package = unpacked(tmp_path)

    def change(description: dict) -> None:
        architecture = description["weights"]["pytorch_state_dict"]["architecture"]
        task = architecture["kwargs"]["config_yaml"]["task_config"]
        architecture["kwargs"] = {"architecture_dict": NEWER_UNET, "task_dict": task}

    edit_description(package, change)
    assert open_checkpoint(package).channel_names == ("ecs", "pm")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda d: d["weights"]["pytorch_state_dict"].update(source="../outside.pth"),
            "refers to '../outside.pth', which is not in it",
        ),
        (lambda d: d["inputs"].append({}), "inputs must list one tensor"),
        (
            lambda d: d["weights"]["pytorch_state_dict"]["architecture"].update(kwargs={}),
            "its axes bcd0d1 are not supported",
        ),
        (lambda d: d["outputs"][0]["axes"][1].update(channel_names=["a"]), "it names 1 channels"),
    ],
)
def test_damaged_packages_are_refused(
    edit: Callable[[dict], None], message: str, tmp_path: Path
) -> None:
    package = unpacked(tmp_path)
    shutil.copy(package / "model.pth", tmp_path / "outside.pth")
    edit_description(package, edit)
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(package)


def test_an_archive_that_would_fill_the_disk_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "bomb.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("rdf.yaml", "a: 1")
        archive.writestr("model.pth", bytes(10 << 20))
    with pytest.raises(CheckpointError, match="was not unpacked"):
        open_checkpoint(file)


def test_members_outside_the_archive_are_not_written(tmp_path: Path) -> None:
    file = tmp_path / "inside" / "package.zip"
    file.parent.mkdir()
    shutil.copy(EXPORT, file)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("../../../escaped", "text")
    assert open_checkpoint(file).channel_names == ("ecs", "pm")
    assert not list(tmp_path.rglob("escaped"))
