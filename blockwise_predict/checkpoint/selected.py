"""Predicting some of a CNNectomeUNet's channels: what is not needed for them is left out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import cast

from torch import nn

from blockwise_predict.architectures import CNNectomeUNetModule, OutputActivations, SeparateHeads
from blockwise_predict.checkpoint.prediction_model import PredictionModel


def head_rows(
    channels: Sequence[int], sizes: Sequence[int], *, has_head: bool
) -> list[tuple[int, ...]]:
    """The channels of each expanding path that have to be computed for some of the network's.

    `sizes` are the paths' numbers of channels. A path without a selected channel is left out. Of
    the others only the selected channels are computed if they end with a head. A single one is
    computed together with a neighbour: with one output channel torch adds in another order, and the
    values would differ by rounding from those of the whole network.
    """
    rows, begin = [], 0
    for size in sizes:
        own = sorted(number - begin for number in channels if begin <= number < begin + size)
        if own and not has_head:
            own = list(range(size))
        elif len(own) == 1 < size:
            own = sorted([*own, own[0] - 1 if own[0] else 1])
        rows.append(tuple(own))
        begin += size
    return rows


def keep_channels(network: PredictionModel, channels: Sequence[int], sizes: Sequence[int]) -> None:
    """Have a network give only some of its channels, in this order.

    On a CPU, float32 values before the activation are the same to the byte. `sizes` are the numbers
    of channels of its expanding paths.
    """
    head = network.prediction_head
    heads = [*head] if isinstance(head, SeparateHeads) else [head]
    has_head = not isinstance(heads[0], nn.Identity)
    rows = head_rows(channels, sizes, has_head=has_head)
    names = _activations(network.eval_activation, sum(sizes))
    kept = [path for path, own in enumerate(rows) if own]
    if has_head:
        for path in kept:
            _keep_rows(cast(nn.Conv3d, heads[path]), rows[path])
    if isinstance(head, SeparateHeads):
        cast(CNNectomeUNetModule, network.architecture.unet).keep_heads(kept)
        separate = SeparateHeads(heads[path] for path in kept)
        network.prediction_head = separate if len(kept) > 1 else heads[kept[0]]
    computed = [sum(sizes[:path]) + number for path, own in enumerate(rows) for number in own]
    runs = groupby(names[number] for number in channels)
    network.eval_activation = OutputActivations(
        [(len([*run]), name) for name, run in runs],
        [computed.index(number) for number in channels],
    )


def _activations(activation: nn.Module, channels: int) -> list[str]:
    """The name of each channel's activation. All are elementwise, so none needs other channels."""
    if isinstance(activation, OutputActivations):
        return activation.by_channel
    return [type(activation).__name__] * channels


def _keep_rows(convolution: nn.Conv2d | nn.Conv3d, rows: Sequence[int]) -> None:
    """Keep some output channels of a convolution. Its tensors are replaced, not changed."""
    convolution.out_channels = len(rows)
    for name in ("weight", "bias"):
        kept = getattr(convolution, name).detach()[list(rows)].clone()
        setattr(convolution, name, nn.Parameter(kept, requires_grad=False))
