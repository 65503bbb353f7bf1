"""A folder in which the files exist that the documents name, as small as they can be."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tifffile
import torch
import yaml
from torch import nn

from blockwise_predict.architectures import CNNectomeUNet, CNNectomeUNetConfig
from blockwise_predict.demo import MODEL
from blockwise_predict.demo.phantom import make_phantom
from tests.support.dacapo_runs import DaCapoModel
from tests.support.families import EXPORT
from tests.support.networks import TINY_3D, liven
from tests.support.runs import write_volume
from tests.support.shared import ROOT
from tests.support.two_tasks import TwoTasks

ARCHITECTURE = {"__type__": "CNNectomeUNetConfig", "name": "tiny", **TINY_3D}
NEIGHBORHOOD = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
TASK = {"__type__": "AffinitiesTaskConfig", "neighborhood": NEIGHBORHOOD}
# So large that regions of micrometres, as the documents have them, are a few voxels.
VOXEL_NM = (1000, 1000, 1000)
SHAPE = (44, 36, 40)
CONFIG: dict[str, Any] = {
    "checkpoint": "dacapo/my_run",
    "input": "volume.zarr/raw",
    "output": "predictions.zarr/affs",
    "device": "cpu",
}


def write_documented_files(folder: Path) -> None:
    """All of them; those that two pages call by other names are there twice."""
    generator = np.random.default_rng(0)
    raw = generator.integers(0, 256, SHAPE, np.uint8)
    write_volume(folder / "volume.zarr", raw, VOXEL_NM)
    tissue = write_volume(folder / "masks.zarr", np.ones((11, 9, 10), np.uint8), (4000,) * 3)
    Path(tissue).rename(folder / "masks.zarr" / "tissue")
    for seed, name in enumerate(("my_run", "run_a", "run_b")):
        _write_run(folder / "dacapo", name, seed)
    weights = _model(0).state_dict()
    torch.save(weights, folder / "weights.pt")
    document = {"architecture": ARCHITECTURE, "task": TASK}
    (folder / "architecture.yaml").write_text(yaml.safe_dump(document))
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    for name in ("slurm", "lsf"):
        shutil.copy(ROOT / "configs" / f"{name}.yaml", folder)
    shutil.copy(EXPORT, folder / "my_run.zip")
    _write_demo(folder)
    _write_two_tasks(folder)
    (folder / "regions.csv").write_text("z0,z1,y0,y1,x0,x1\n0,9000,0,9000,0,9000\n")
    tifffile.imwrite(folder / "stack.tif", raw[:4], photometric="minisblack")
    for name in ("slices", "RUN_DIR"):
        (folder / name).mkdir()
    for number in range(3):
        tifffile.imwrite(folder / "slices" / f"{number}.tif", raw[number])
    with h5py.File(folder / "volume.h5", "w") as file:
        file["volumes/raw"] = raw[:4]


def _write_demo(folder: Path) -> None:
    """What there is in a clone of the repository after `make demo`, with a smaller phantom."""
    shutil.copytree(ROOT / "configs", folder / "configs")
    shutil.copytree(MODEL, folder / MODEL.relative_to(ROOT))
    phantom = make_phantom((72, 64, 64), seed=0).raw
    write_volume(folder / "predict-demo" / "phantom.zarr", phantom)


def _write_two_tasks(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as made:
        TwoTasks(Path(made))
        shutil.move(Path(made, "weights.pt"), folder / "mtlsd.pt")
        shutil.move(Path(made, "architecture.yaml"), folder / "mtlsd.yaml")


def _model(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    unet = CNNectomeUNet(CNNectomeUNetConfig(name="tiny", **TINY_3D))
    return DaCapoModel(liven(unet), liven(nn.Conv3d(TINY_3D["fmaps_out"], 3, 1)))


def _write_run(base: Path, name: str, seed: int) -> None:
    """A run of DaCapo with two iterations."""
    document = base / "configs" / "runs" / f"{name}.yaml"
    document.parent.mkdir(parents=True, exist_ok=True)
    content = {"architecture_config": ARCHITECTURE, "task_config": TASK, "name": name}
    document.write_text(yaml.safe_dump(content))
    folder = base / name / "checkpoints" / "iterations"
    folder.mkdir(parents=True)
    for iteration in (50000, 100000):
        state = _model(seed + iteration).state_dict()
        torch.save({"model": state, "optimizer": {}}, folder / str(iteration))
