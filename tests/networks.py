"""Tiny networks with random weights, and the one big forward pass they are held to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml

TINY_3D: dict[str, Any] = {
    "input_shape": [20, 20, 20],
    "fmaps_in": 1,
    "fmaps_out": 2,
    "num_fmaps": 2,
    "fmap_inc_factor": 2,
    "downsample_factors": [[2, 2, 2]],
}


def save_network(folder: Path, seed: int = 0, task: dict[str, Any] | None = None, **kwargs: Any):
    """Write random weights and their architecture; returns the two paths."""
    from blockwise_predict.architectures import CNNectomeUNet, CNNectomeUNetConfig

    settings = {**TINY_3D, **kwargs}
    torch.manual_seed(seed)
    unet = CNNectomeUNet(CNNectomeUNetConfig(name="tiny", **settings))
    state = {f"architecture.{key}": value for key, value in unet.state_dict().items()}
    document: dict[str, Any] = {"architecture": settings}
    if task is not None:
        document["task"] = task
        dims = len(settings["input_shape"])
        channels = len(task["neighborhood"])
        conv = {2: torch.nn.Conv2d, 3: torch.nn.Conv3d}[dims]
        head = conv(settings["fmaps_out"], channels, 1)
        state |= {f"prediction_head.{key}": value for key, value in head.state_dict().items()}
    weights, architecture = folder / "weights.pt", folder / "architecture.yaml"
    torch.save(state, weights)
    architecture.write_text(yaml.safe_dump(document))
    return weights, architecture
