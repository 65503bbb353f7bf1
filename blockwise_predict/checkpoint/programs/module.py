"""A program as a torch module with one tensor in and one tensor out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from blockwise_predict.errors import CheckpointError


class SingleOutput(nn.Module):
    """A network whose call gives one tensor, alone, or in a list, a tuple or a dictionary."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The output tensor. Raises CheckpointError if there are several, or none."""
        return single_tensor(self.network(x))


def single_tensor(output: Any) -> torch.Tensor:
    """The only tensor of a network's output. Raises CheckpointError if it has several, or none."""
    if isinstance(output, torch.Tensor):
        return output
    values = list(output.values()) if isinstance(output, Mapping) else output
    found = [one for one in values if isinstance(one, torch.Tensor)] if _listed(values) else []
    if len(found) == 1:
        return found[0]
    names = f" ({', '.join(map(str, output))})" if isinstance(output, Mapping) else ""
    raise CheckpointError(
        f"the network gives {len(found)} tensors{names}, of which one can be predicted at a time. "
        "Save a network that gives one of them, or all of them concatenated as channels."
    )


def _listed(values: Any) -> bool:
    return isinstance(values, (list, tuple))
