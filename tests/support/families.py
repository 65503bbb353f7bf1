"""Files of other programs' networks, and what those programs compute with them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import nn

from tests.support.funlib_unet import StandardUnet
from tests.support.networks import liven
from tests.support.shared import ROOT

FOLDER = ROOT / "tests" / "data" / "families"
EXPORT = FOLDER / "dacapo_export.zip"

# As tests/data/families/make.py built it, and as DaCapo writes it to its runs.
NEWER_UNET: dict[str, Any] = {
    "__type__": "CNNectomeUNetConfig",
    "name": "small",
    "_input_shape": [32, 32],
    "fmaps_out": 3,
    "fmaps_in": 1,
    "num_fmaps": 2,
    "fmap_inc_factor": 2,
    "downsample_factors": [[2, 2]],
    "kernel_size_down": [[[3, 3], [3, 3]], [[3, 3], [3, 1], [1, 3]]],
    "kernel_size_up": [[[3, 3], [3, 3]]],
    "_eval_shape_increase": None,
    "upsample_factors": [[2, 2]],
    "constant_upsample": True,
    "padding": "valid",
    "use_attention": False,
    "batch_norm": False,
}
COSEM_UNET: dict[str, Any] = {
    "input_shape": [72, 72, 72],
    "fmaps_out": 4,
    "fmaps_in": 1,
    "num_fmaps": 2,
    "fmap_inc_factor": 2,
    "downsample_factors": [[2, 2, 2], [3, 3, 3]],
    "activation_on_upsample": False,
}


@dataclass(frozen=True)
class Recorded:
    """A network's tensors, an input, and the output that its own program gave."""

    state: dict[str, torch.Tensor]
    input: np.ndarray
    output: np.ndarray


def recorded(name: str) -> Recorded:
    """One of tests/data/families."""
    with np.load(FOLDER / f"{name}.npz") as stored:
        arrays = dict(stored)
    state = {
        key.removeprefix("param/"): torch.from_numpy(array)
        for key, array in arrays.items()
        if key.startswith("param/")
    }
    return Recorded(state, seeded(*arrays["shape"]), arrays["output"])


def seeded(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, np.float32)


def write_newer_run(base: Path, task: dict[str, Any] | None, state: dict[str, Any]) -> Path:
    """A run of DaCapo after 0.3.5, with a traced model beside its weights."""
    document = base / "configs" / "runs" / "net.yaml"
    document.parent.mkdir(parents=True)
    content = {"name": "net", "architecture_config": NEWER_UNET, "task_config": task}
    document.write_text(yaml.safe_dump(content))
    folder = base / "net" / "checkpoints" / "iterations"
    folder.mkdir(parents=True)
    torch.save({"model": state, "optimizer": {}}, folder / "100")
    (folder / "trace.pt").write_bytes(b"not read")
    return base / "net"


def write_cosem(file: Path, network: Recorded, settings: dict[str, Any]) -> Path:
    """Weights as COSEM published them, with a description of the network; gives its path."""
    file.parent.mkdir(parents=True, exist_ok=True)
    names = {name: name.replace("backbone.", "architecture.unet.") for name in network.state}
    model = {new: network.state[name] for name, new in names.items()}
    chain = {name.replace("architecture.", "chain.0."): value for name, value in model.items()}
    chain = {n.replace("prediction_head.", "chain.1."): value for n, value in chain.items()}
    torch.save({"model": model | chain, "optimizer": {}}, file)
    document = file.parent / "cosem.yaml"
    task = {"__type__": "DistanceTaskConfig", "channels": ["ecs", "pm"]}
    document.write_text(yaml.safe_dump({"architecture": {**COSEM_UNET, **settings}, "task": task}))
    return document


def write_fly_organelles(folder: Path, levels: int = 4, number: int = 10) -> nn.Module:
    """A checkpoint as gunpowder saves it for fly_organelles, whose network it returns."""
    network = liven(StandardUnet(2, num_fmaps=2, fmap_inc_factor=2, levels=levels)).eval()
    optimizer = torch.optim.Adam(network.parameters())
    content = {
        "model_state_dict": network.state_dict(),
        "optimizer_state_dict": optimizer.state_dict(),
    }
    torch.save(content, folder / f"model_checkpoint_{number}")
    return network
