"""The options that choose channels of the network, and the arrays they are stored in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import PlainSerializer, PlainValidator, model_validator

from blockwise_predict.config.fields import PredictionOptions
from blockwise_predict.config.option import Group, option
from blockwise_predict.config.per_output import MAX_OUTPUTS, named_parts

MAX_CHANNELS = 4096
_HOW = "write names or numbers of channels, for example mito,er or 0:3"
# What an array in a group can be called in every format. A dot only before a number, as in
# aff_0.0.-1, so that no name is hidden, or looks like a file or a container.
_ARRAY_NAME = re.compile(r"(?:[A-Za-z0-9_-]|(?<!^)\.(?=[0-9-])){1,100}")


def is_array_name(name: str) -> bool:
    """Whether an array of a group can have this name."""
    return _ARRAY_NAME.fullmatch(name) is not None


def _channels(value: object) -> tuple[str, ...]:
    """Names and numbers of channels, from text separated by commas, or from a list."""
    items = value.split(",") if isinstance(value, str) else value
    if isinstance(items, int) and not isinstance(items, bool):
        items = [items]
    if not isinstance(items, (list, tuple)) or not 0 < len(items) <= MAX_CHANNELS:
        raise ValueError(_HOW)
    if not all(isinstance(item, (str, int)) for item in items):
        raise ValueError(_HOW)
    names = tuple(str(item).strip() for item in items)
    if not all(names):
        raise ValueError(_HOW)
    return names


def _split(value: object) -> Any:
    """`each`, or the channels of each array, from text as `mito=0,er=1,2` or from a mapping."""
    if value == "each":
        return value
    if isinstance(value, str) and "=" in value:
        value = named_parts(value, "an array")
    if not isinstance(value, Mapping) or not 0 < len(value) <= MAX_OUTPUTS:
        raise ValueError("write each, or arrays with their channels, for example mito=0,er=1,2")
    for name in value:
        if not isinstance(name, str) or not is_array_name(name):
            raise ValueError(
                f"{str(name)[:100]!r} cannot name an array: use up to 100 letters, digits, _ and -"
            )
    return {name: _channels(listed) for name, listed in value.items()}


# The values are JSON as they are; pydantic's own serializer warns of a dictionary in such a union.
_AS_IT_IS = PlainSerializer(lambda value: value)
Channels = Annotated[tuple[str, ...], PlainValidator(_channels)]
Split = Annotated[Literal["each"] | dict[str, tuple[str, ...]], PlainValidator(_split), _AS_IT_IS]


class ChannelOptions(PredictionOptions):
    """What can be asked of a run, with the channels that it predicts."""

    channels: Channels | None = option(
        None,
        Group.OUTPUT,
        "The network's channels to predict, in this order: names, numbers from 0 on, ranges of "
        "numbers (0:3 without 3), or outputs by name. The last layer computes only these.",
        metavar="NAMES",
        unset="all",
        example="mito,er",
    )
    split: Split | None = option(
        None,
        Group.OUTPUT,
        "Write a group of arrays instead of one array: one for each channel (each), or those that "
        "are named, with their channels as in --channels.",
        metavar="NAME=CHANNELS,...",
        unset="one array, or one for each output of the network",
        example="mito=0,er=1,2",
    )

    @model_validator(mode="after")
    def _channels_once(self) -> Self:
        if self.channels is not None and isinstance(self.split, dict):
            raise ValueError("channels: split names the channels already; leave one of them out")
        return self
