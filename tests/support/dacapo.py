"""Networks of DaCapo with its own parameters, and what it computed with them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from blockwise_predict.architectures import (
    CNNectomeUNet,
    CNNectomeUNetConfig,
    CNNectomeUNetModule,
    UNetShapes,
)
from tests.support.shared import shared_path

NAMES = (
    "cfg2d_attention_batchnorm",
    "cfg2d_default",
    "cfg3d_anisotropic",
    "cfg3d_attention",
    "cfg3d_batchnorm",
    "cfg3d_default",
    "cfg3d_factor3",
    "cfg3d_same_padding",
    "cfg3d_superresolution",
    "cfg3d_transposed",
    "mod3d_contraction_list",
    "mod3d_defaults",
    "mod3d_elu",
    "mod3d_two_heads",
)


@dataclass(frozen=True)
class Case:
    """A network that DaCapo has run."""

    name: str
    arguments: dict[str, Any]
    of_config: bool
    """Whether the arguments are a CNNectomeUNetConfig's, and not the bare module's."""
    returns_list: bool
    valid_input_sizes: list[int]
    """Along the last axis."""
    parameters: dict[str, torch.Tensor]
    input: np.ndarray
    """`[1, C, *spatial]`."""
    outputs: list[np.ndarray]
    """Each head's, `[1, K, *spatial]`."""

    @cached_property
    def config(self) -> CNNectomeUNetConfig:
        assert self.of_config
        return CNNectomeUNetConfig(name=self.name, **self.arguments)

    def shapes(self) -> UNetShapes:
        if self.of_config:
            return UNetShapes.from_config(self.config)
        return CNNectomeUNetModule(**self.arguments)._shapes

    def build(self) -> torch.nn.Module:
        """Our network of that kind, with DaCapo's parameters."""
        if self.of_config:
            model: torch.nn.Module = CNNectomeUNet(self.config)
        else:
            model = CNNectomeUNetModule(**self.arguments)
        model.load_state_dict(self.parameters, strict=True)
        return model.eval()


def load_case(name: str) -> Case:
    """One of `NAMES`."""
    folder = shared_path("oracle/cnnectome_unet")
    said = json.loads((folder / f"{name}.json").read_text())
    with np.load(folder / f"{name}.npz") as stored:
        arrays = dict(stored)
    given = {key.partition("/")[2]: array for key, array in arrays.items() if "param/" in key}
    count = sum(key.startswith("output/") for key in arrays)
    return Case(
        name=name,
        arguments=said["kwargs"],
        of_config=said["kind"] == "config",
        returns_list=said["returns_list"],
        valid_input_sizes=said["valid_input_sizes"],
        parameters={key: torch.from_numpy(array) for key, array in given.items()},
        input=arrays["input"],
        outputs=[arrays[f"output/{number}"] for number in range(count)],
    )
