"""Tiny networks with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml

from blockwise_predict.architectures import CNNectomeUNet, CNNectomeUNetConfig, UNetShapes
from blockwise_predict.engine.builder import StreamSpec
from blockwise_predict.engine.passes import CHUNK_VOXELS

TINY_3D: dict[str, Any] = {
    "input_shape": [20, 20, 20],
    "fmaps_in": 1,
    "fmaps_out": 2,
    "num_fmaps": 2,
    "fmap_inc_factor": 2,
    "downsample_factors": [[2, 2, 2]],
}


def liven(network: torch.nn.Module) -> torch.nn.Module:
    """Give a network weights with which its output varies.

    With torch's own, all ReLUs of so small a network may be dead, and its output constant: then
    any comparison of outputs would hold.
    """
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.uniform_(parameter, 0.0, 0.3)
        elif parameter.dim() > 2:
            torch.nn.init.kaiming_normal_(parameter)
    return network


def save_network(folder: Path, seed: int = 0, task: dict[str, Any] | None = None, **kwargs: Any):
    """Write random weights and their architecture; returns the two paths."""
    settings = {**TINY_3D, **kwargs}
    torch.manual_seed(seed)
    unet = CNNectomeUNet(CNNectomeUNetConfig(name="tiny", **settings))
    liven(unet)
    state = {f"architecture.{key}": value for key, value in unet.state_dict().items()}
    document: dict[str, Any] = {"architecture": settings}
    if task is not None:
        document["task"] = task
        # Of the tasks used here, only one-hot has a kernel of more than one voxel.
        names, kernel = (task["classes"], 3) if "classes" in task else (task["neighborhood"], 1)
        conv = torch.nn.Conv2d if len(settings["input_shape"]) == 2 else torch.nn.Conv3d
        head = conv(settings["fmaps_out"], len(names), kernel)
        liven(head)
        state |= {f"prediction_head.{key}": value for key, value in head.state_dict().items()}
    weights, architecture = folder / "weights.pt", folder / "architecture.yaml"
    torch.save(state, weights)
    architecture.write_text(yaml.safe_dump(document))
    return weights, architecture


NETWORKS: dict[str, dict[str, Any]] = {
    "plain": {},
    "two levels, factors 2 and 3": {"downsample_factors": [[2, 2, 2], [3, 3, 3]]},
    "anisotropic": {
        "downsample_factors": [[1, 2, 2], [2, 2, 2]],
        "kernel_size_down": [[[1, 3, 3]], [[3, 3, 3]], [[3, 3, 3]]],
        "kernel_size_up": [[[1, 3, 3]], [[3, 3, 3]]],
    },
    "transposed": {"constant_upsample": False},
    "batch norm": {"batch_norm": True},
    "super-resolution": {"upsample_factors": [[2, 2, 2]]},
    "super-resolution with kernels of its own, no activation": {
        "upsample_factors": [[2, 1, 2]],
        "super_resolution_kernels": [[2, 3, 3], [3, 3, 1]],
        "activation_on_upsample": False,
    },
    "nearest upsampling alone": {
        "downsample_factors": [[2, 2, 2], [1, 2, 2]],
        "activation_on_upsample": False,
        "upsample_channel_contraction": [False, False],
        "upsample_convolution": False,
    },
    "transposed, no contraction, ELU": {
        "constant_upsample": False,
        "activation": "ELU",
        "activation_on_upsample": False,
        "upsample_channel_contraction": [False],
    },
    "2-D": {"input_shape": [20, 20], "downsample_factors": [[2, 2], [2, 2]]},
    "2-D super-resolution by 3": {
        "input_shape": [20, 20],
        "downsample_factors": [[2, 2]],
        "upsample_factors": [[3, 3]],
    },
}


def default_network() -> tuple[torch.nn.Module, UNetShapes]:
    """DaCapo's default network, with few feature maps."""
    config = CNNectomeUNetConfig(
        name="small",
        input_shape=(92, 92, 92),
        fmaps_in=1,
        fmaps_out=4,
        num_fmaps=4,
        fmap_inc_factor=2,
        downsample_factors=[(2, 2, 2), (2, 2, 2)],
    )
    torch.manual_seed(0)
    return CNNectomeUNet(config).eval(), UNetShapes.from_config(config)


def stream_spec(shapes: UNetShapes, axes: tuple[int, ...] = (0, 1, 2)) -> StreamSpec:
    """How to stream a network in float32 on a CPU."""
    return StreamSpec(shapes, axes, torch.float32, torch.device("cpu"), CHUNK_VOXELS["cpu"])
