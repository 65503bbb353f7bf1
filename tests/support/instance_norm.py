"""A network of another kind: same padding and instance norm, known by its shapes alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, Self

import torch
from torch import nn

from blockwise_predict.architectures import NetworkShapes
from blockwise_predict.checkpoint import TrainedModel

CHANNELS, TILE = 3, 16


@dataclass(frozen=True)
class SameShapes:
    """The output has the input's shape, and depends on all of it."""

    dims: int = 3
    equivariant: bool = False
    period: tuple[int, ...] = (1, 1, 1)
    scale: tuple[int, ...] = (1, 1, 1)
    context: tuple[int, ...] = (0, 0, 0)
    lost: tuple[tuple[int, int], ...] = ((0, 0),) * 3

    def output_shape(self, input_shape: Sequence[int]) -> tuple[int, ...]:
        return tuple(input_shape)

    def valid_input_shape(self, wanted: Sequence[int], rounding: str = "nearest") -> Any:  # noqa: ARG002
        return tuple(wanted)


@dataclass(frozen=True, repr=False, kw_only=True)
class InstanceNormModel(TrainedModel):
    """Two convolutions with an instance norm between them."""

    @classmethod
    def random(cls, seed: int = 0) -> Self:
        torch.manual_seed(seed)
        names = tuple(f"channel_{number}" for number in range(CHANNELS))
        return cls(
            path="memory",
            channel_names=names,
            weights=_network().state_dict(),
            options={"checkpoint": "memory"},
        )

    @property
    def shapes(self) -> NetworkShapes:
        return SameShapes()

    @property
    def in_channels(self) -> int:
        return 1

    @property
    def output_range(self) -> None:
        return None

    @property
    def usual_input_shape(self) -> tuple[int, ...]:
        return (TILE,) * 3

    def flops(self, input_shape: tuple[int, ...]) -> int:
        return 2 * 27 * 8 * prod(input_shape)

    @property
    def flops_without_halo(self) -> float:
        return 2 * 27 * 8.0

    def peak_elements(self, input_shape: tuple[int, ...]) -> int:
        return 8 * prod(input_shape)

    def build(self) -> nn.Module:
        return self._built

    @cached_property
    def _built(self) -> nn.Module:
        network = _network()
        network.load_state_dict(dict(self.weights))
        return network.eval().requires_grad_(False)

    def architecture_dict(self) -> dict[str, Any]:
        return {"kind": "instance norm"}

    def head_dict(self) -> None:
        return None


def _network() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(1, 4, 3, padding=1),
        nn.InstanceNorm3d(4, affine=True),
        nn.LeakyReLU(0.01),
        nn.Conv3d(4, CHANNELS, 3, padding=1),
    )
