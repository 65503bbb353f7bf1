"""Runs, checkpoints and documents as DaCapo writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from blockwise_predict.architectures import CNNectomeUNet, CNNectomeUNetConfig

ARCHITECTURE: dict[str, Any] = {
    "__type__": "CNNectomeUNetConfig",
    "name": "tiny",
    "input_shape": (20, 20),
    "_eval_shape_increase": (8, 8),
    "fmaps_in": 1,
    "fmaps_out": 3,
    "num_fmaps": 2,
    "fmap_inc_factor": 2,
    "downsample_factors": [(2, 2)],
}
TASK: dict[str, Any] = {"__type__": "AffinitiesTaskConfig", "neighborhood": [(1, 0), (0, 1)]}


class DaCapoModel(nn.Module):
    """Layers registered twice, as DaCapo's model does."""

    def __init__(self, architecture: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.architecture = architecture
        self.prediction_head = head
        self.chain = nn.Sequential(architecture, head)


def dacapo_model(head: nn.Module | None = None, **changes: Any) -> DaCapoModel:
    settings = {**ARCHITECTURE, **changes}
    settings["eval_shape_increase"] = settings.pop("_eval_shape_increase")
    del settings["__type__"]
    torch.manual_seed(0)
    unet = CNNectomeUNet(CNNectomeUNetConfig(**settings))
    return DaCapoModel(unet, head or nn.Conv2d(3, 2, 1)).eval()


def write_run(base: Path, iterations: tuple[int, ...] = (100,)) -> Path:
    """A DaCapo base folder with one run, `net`; its YAML has DaCapo's tuple tags."""
    document = base / "configs" / "runs" / "net.yaml"
    document.parent.mkdir(parents=True)
    # PyYAML's default Dumper writes tuples as DaCapo does.
    text = yaml.dump({"architecture_config": ARCHITECTURE, "task_config": TASK, "name": "net"})
    assert "!!python/tuple" in text
    document.write_text(text)
    folder = base / "net" / "checkpoints" / "iterations"
    folder.mkdir(parents=True)
    for number in iterations:
        torch.save({"model": dacapo_model().state_dict(), "optimizer": {}}, folder / str(number))
    return base / "net"


def write_yaml(folder: Path, content: Any) -> Path:
    file = folder / "arch.yaml"
    file.write_text(yaml.dump(content))
    return file


def plain(value: Any) -> Any:
    return json.loads(json.dumps(value))
