"""The activation after a network: what its files hold, and what is declared for it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import get_args

from torch import nn

from blockwise_predict.checkpoint.trained import TrainedModel
from blockwise_predict.config.values import Activation
from blockwise_predict.errors import CheckpointError, shown

_MODULES: dict[str | None, type[nn.Module]] = {
    None: nn.Identity,
    "none": nn.Identity,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
}
_NUMBER = re.compile(r"-?\d+\.\d+(e[+-]?\d+)?")
_RANGES = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0)}


def activation_module(activation: str | None) -> nn.Module:
    """The module of an activation; an identity for `none` and None."""
    return _MODULES[activation]()


def activation_range(activation: str | None) -> tuple[float, float] | None:
    """Bounds that an activation guarantees, if it does."""
    return None if activation is None else _RANGES.get(activation)


def declare_activation(model: TrainedModel, activation: str | None) -> TrainedModel:
    """The model followed by the activation that its user declares; as it is for None.

    Raises CheckpointError for an unknown activation, and if the network's own files have one: it
    would be applied twice.
    """
    if activation is None:
        return model
    if activation not in get_args(Activation):
        raise CheckpointError(
            f"activation {shown(activation)}: it is one of {', '.join(get_args(Activation))}."
        )
    if model.own_activation is not None:
        raise CheckpointError(
            f"--activation {activation}: {model.path} has an activation of its own "
            f"({model.own_activation}), which is always applied. Leave the option out."
        )
    return replace(
        model,
        activation=activation,
        undeclared=tuple(name for name in model.undeclared if name != "activation"),
        options={**model.options, "activation": activation},
    )


def declaration_rows(model: TrainedModel) -> Iterator[tuple[str, str]]:
    """Label and text of what is stated, or is to be declared, about input and output values."""
    for name, option, stated in (
        ("normalization", "--normalize", model.normalization),
        ("activation", "--activation", model.activation),
    ):
        if name in model.undeclared:
            yield name, f"not stated in the files: a run has to declare it with {option}"
        elif stated is not None:
            yield name, _NUMBER.sub(lambda number: f"{float(number[0]):g}", stated)
