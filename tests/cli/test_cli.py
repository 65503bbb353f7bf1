"""`predict inspect`, `predict demo`, `--help`, and the shipped files, as a user meets them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blockwise_predict.config.model import load_config
from tests.support.networks import save_network
from tests.support.runs import predict, read_output, recorded_run, write_volume
from tests.support.shared import ROOT


def test_inspect_of_a_checkpoint(tmp_path: Path) -> None:
    weights, architecture = save_network(tmp_path)
    output = predict("inspect", weights, "--architecture", architecture)
    for label in ("parameters", "context", "period", "channels", "halo", "sha256"):
        assert f"\n{label} " in output
    assert "8,8,8 output voxels on each side" in output


def test_inspect_of_an_array(tmp_path: Path) -> None:
    volume = write_volume(tmp_path / "v.zarr", np.zeros((4, 5, 6), np.uint16), (8, 4, 4), (0, 4, 8))
    output = predict("inspect", volume)
    assert "4 x 5 x 6 voxels (z, y, x)" in output
    assert "8 x 4 x 4 nm, from attribute 'voxel_size' of raw/.zattrs" in output
    assert "[0:32,4:24,8:32] nm" in output
    assert "2 x 2 x 2 nm, from --voxel-size" in predict("inspect", volume, "--voxel-size", "2,2,2")


def test_inspect_of_what_is_not_there(tmp_path: Path) -> None:
    volume = write_volume(tmp_path / "v.zarr", np.zeros((4, 5, 6), np.uint16))
    assert f"Arrays found: {volume}." in predict("inspect", tmp_path / "v.zarr", code=2)
    assert "no such file, folder or array" in predict("inspect", tmp_path / "nothing", code=2)


@pytest.mark.slow
def test_demo_draws_a_picture_and_its_config_does_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "predict-demo"
    output = predict("demo", "--folder", folder)
    assert "ROC AUC 0.99" in output
    with Image.open(folder / "demo.png") as picture:
        assert picture.width > 1200
        pixels = np.asarray(picture.convert("L"))
    assert pixels.std() > 30

    # Again: nothing is computed anew.
    assert "4 of 4 blocks are done" in predict("demo", "--folder", folder)
    assert (folder / "report.html").stat().st_size > 10_000

    # configs/demo.yaml, with paths relative to the root of a clone, for a quarter of the volume.
    config = load_config({}, ROOT / "configs" / "demo.yaml")
    again = tmp_path / "again.zarr" / "affs"
    predict(
        *("run", ROOT / "configs" / "demo.yaml", "--checkpoint", ROOT / config.checkpoint),
        *("--architecture", ROOT / str(config.architecture)),
        *("--input", tmp_path / config.input, "--output", again, "--roi", "[:,0:960,0:960]"),
    )
    # Each run chose its precision: what they may differ by is half a step (rms) from float32.
    ours = read_output(str(again)).astype(int)
    demo = read_output(str(folder / "prediction.zarr" / "affinities"))[:, :, :96, :96].astype(int)
    assert ours.shape == demo.shape
    assert np.sqrt(((ours - demo) ** 2).mean()) < 1


@pytest.mark.parametrize("name", ["local", "demo", "slurm", "lsf"])
def test_shipped_configs_are_valid(name: str) -> None:
    workers = 16 if name in ("slurm", "lsf") else 1
    assert load_config({}, ROOT / "configs" / f"{name}.yaml").workers == workers


@pytest.mark.parametrize(
    "name", ["run", "plan", "inspect", "logs", "scale", "export", "workers", "worker", "demo"]
)
def test_help_has_examples(name: str) -> None:
    assert f"\n  predict {name} " in predict(name, "--help")


# What takes long to import, and what only those commands need that predict.
SLOW_IMPORTS = {"torch", "daisy", "zarr", "dask", "scipy"}
RUN_AND_LIST = """
import sys
from blockwise_predict.cli import main
try:
    main()
except SystemExit as end:
    assert not end.code or sys.argv[1] == "scale", end.code
print("IMPORTED", *sorted(set({slow}) & set(sys.modules)))
"""


def slow_imports_of(*arguments: object) -> list[str]:
    """What takes long, and is imported for `predict ARGUMENTS` in a fresh interpreter."""
    code = RUN_AND_LIST.format(slow=SLOW_IMPORTS)
    result = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()[-1].split()[1:]


@pytest.mark.parametrize("words", ["--help", "run --help", "retry --help", "workers list"])
def test_what_computes_nothing_does_not_wait_for_torch(words: str) -> None:
    assert slow_imports_of(*words.split()) == []


def test_records_are_read_without_torch(tmp_path: Path) -> None:
    config = recorded_run(tmp_path)
    assert slow_imports_of("logs", config.output) == []
    # Nothing runs, which it finds by the records.
    assert slow_imports_of("scale", config.output, 3) == []
