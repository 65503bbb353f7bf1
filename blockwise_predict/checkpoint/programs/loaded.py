"""A program as its reader hands it over, before it is probed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from blockwise_predict.checkpoint.probing.probe import Hints
from blockwise_predict.checkpoint.probing.sizes import Candidate
from blockwise_predict.checkpoint.programs.module import JoinedOutputs

# Numbers of channels to try where weights do not tell, and how many candidates are tried.
USUAL_CHANNELS = (1, 2, 3, 4)
_MOST = 12


@dataclass(frozen=True)
class Loaded:
    """A program.

    kind: of program, in words.
    module: `[B, C, *in]` to `[B, K, *out]`.
    sha256: of what defines the program, weights included.
    weights: by name, where the program has any that torch knows of.
    hints: what its file says about its input.
    """

    kind: str
    module: JoinedOutputs
    sha256: str
    hints: Hints
    weights: Mapping[str, torch.Tensor] = field(default_factory=dict)


def candidates_of(weights: Mapping[str, torch.Tensor]) -> list[Candidate]:
    """What the kernels of convolutions allow a network's input to be, the likeliest first.

    A 3-D network is tried first: it may take what a 2-D network takes as an image without channels.
    """
    kernels = [tensor.shape for tensor in weights.values() if tensor.dim() in (4, 5)]
    found = [Candidate(len(shape) - 2, shape[1]) for shape in kernels]
    axes = {one.dims for one in found} or {2, 3}
    found += [Candidate(dims, number) for dims in axes for number in USUAL_CHANNELS]
    return sorted(dict.fromkeys(found), key=lambda one: -one.dims)[:_MOST]
