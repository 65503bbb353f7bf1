"""A program as a torch module with one tensor in and one tensor out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from blockwise_predict.errors import CheckpointError

# What an array in a group can be called; other names are replaced by numbers.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,99}")


class JoinedOutputs(nn.Module):
    """A network whose call gives one tensor, or several in a list, a tuple or a dictionary.

    Several are concatenated along the channels. `found` then has the name and the number of
    channels of each, once the network has been called; it is empty for a single tensor.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.found: tuple[tuple[str, int], ...] = ()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[B, K, *out]`. Raises CheckpointError for outputs of which that cannot be made."""
        named = _tensors(self.network(x))
        if len(named) == 1:
            return named[0][1]
        shapes = {(tensor.shape[0], *tensor.shape[2:]) for _, tensor in named}
        if len(shapes) > 1:
            listed = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in named)
            raise CheckpointError(
                f"the outputs of the network differ in more than their channels: {listed}. Save a "
                "network that gives one of them."
            )
        self.found = tuple((name, int(tensor.shape[1])) for name, tensor in named)
        return torch.cat([tensor for _, tensor in named], dim=1)


def _tensors(output: Any) -> list[tuple[str, torch.Tensor]]:
    """Name and value of each tensor of a network's output. Raises CheckpointError for none."""
    if isinstance(output, torch.Tensor):
        return [("", output)]
    items = output.items() if isinstance(output, Mapping) else enumerate(_listed(output))
    found = [
        (_name(key, number), value)
        for number, (key, value) in enumerate(items)
        if isinstance(value, torch.Tensor) and value.dim() > 1
    ]
    if not found:
        raise CheckpointError(
            f"the network gives no tensor, but a {type(output).__name__}. It must give one tensor "
            "(batch, channels, spatial axes), or several."
        )
    return found


def _listed(output: Any) -> list[Any]:
    return list(output) if isinstance(output, (list, tuple)) else []


def _name(key: object, number: int) -> str:
    return key if isinstance(key, str) and _NAME.fullmatch(key) else f"output_{number}"
