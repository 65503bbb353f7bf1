"""What a program does, as far as a U-Net's family shows in it: a list of operations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

# The tensor that enters the network.
INPUT = -1
# Sizes that `slice` writes for "to the end".
END = 1 << 62


@dataclass(frozen=True)
class Operation:
    """One operation on tensors.

    kind: `conv`, `conv_transpose`, `batch_norm`, `max_pool`, `upsample`, `concatenate`, an
        activation in lower case, or the name of any other operator.
    layer: name of the layer whose parameters it uses, without `.weight`; empty if it has none.
    numbers: sizes per axis: of pooling and upsampling; the padding of a convolution.
    inputs: the positions of the operations whose results it takes; `INPUT` is the network's input.
    """

    kind: str
    layer: str = ""
    numbers: tuple[float | str, ...] = ()
    inputs: tuple[int, ...] = ()

    def __str__(self) -> str:
        parts = [self.kind, *map(str, self.numbers), *([f"of {self.layer}"] if self.layer else [])]
        return " ".join(parts)


@dataclass(frozen=True)
class Program:
    """The operations in the order in which they are computed, the last one's result being the
    program's; and its weights by the names of the program's own module tree.

    input_shape: spatial sizes of the input it was written for, if the file says so.
    """

    operations: tuple[Operation, ...]
    weights: Mapping[str, torch.Tensor]
    input_shape: tuple[int, ...] | None = None


class UnreadableProgramError(Exception):
    """Why a program's operations cannot be listed; the text continues `... because`."""


@dataclass
class Recorder:
    """Collects operations, and knows which of them made a tensor."""

    operations: list[Operation] = field(default_factory=list)

    def add(
        self,
        kind: str,
        inputs: tuple[int, ...],
        *,
        layer: str = "",
        numbers: tuple[float | str, ...] = (),
    ) -> int:
        """Append an operation; returns its position."""
        self.operations.append(Operation(kind, layer, numbers, inputs))
        return len(self.operations) - 1
