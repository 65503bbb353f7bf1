"""Which of a network's channels are predicted, and which arrays they go to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from blockwise_predict.checkpoint import NetworkOutput, Selection, TrainedModel
from blockwise_predict.config.channel_fields import is_array_name
from blockwise_predict.config.model import RunConfig
from blockwise_predict.errors import ConfigError, shown

Groups = dict[str, list[int]]
_MAX_LISTED = 40


def selected_model(config: RunConfig, model: TrainedModel) -> TrainedModel:
    """The network with the channels and arrays that are configured.

    Raises ConfigError for a channel that it does not have or that is chosen twice, and for a
    channel whose name cannot be that of an array.
    """
    if config.channels is None and config.split is None:
        return model
    groups = _groups(config, model)
    channels = tuple(number for group in groups.values() for number in group)
    outputs = tuple(_output(model, name, group) for name, group in groups.items())
    if outputs == model.trained_outputs:
        return model
    # Transformed copies turn channels into others, also into those that are not stored.
    all_computed = config.augment != "none"
    return model.with_channels(Selection(channels, outputs, model.trained_channels, all_computed))


def _groups(config: RunConfig, model: TrainedModel) -> Groups:
    """The channels of each array, by the arrays' names."""
    if isinstance(config.split, dict):
        named = {
            name: list(_numbers(listed, model, f"--split {name}="))
            for name, listed in config.split.items()
        }
        _check_once((number for group in named.values() for number in group), model, "--split")
        return named
    wanted: Sequence[int] = range(len(model.trained_channels))
    if config.channels is not None:
        wanted = list(_numbers(config.channels, model, "--channels "))
        _check_once(wanted, model, "--channels")
    return _one_each(wanted, model) if config.split == "each" else _by_output(wanted, model)


def _one_each(wanted: Sequence[int], model: TrainedModel) -> Groups:
    groups: Groups = {}
    for number in wanted:
        name = model.trained_channels[number]
        if not is_array_name(name):
            raise ConfigError(
                f"--split each: {shown(name)}, a channel of {model.path}, cannot be the name of "
                f"an array. Name the arrays: --split NAME={number},..."
            )
        if name in groups:
            raise ConfigError(
                f"--split each: {model.path} has several channels that are called {name}. Name "
                f"the arrays: --split NAME={number},..."
            )
        groups[name] = [number]
    return groups


def _by_output(wanted: Sequence[int], model: TrainedModel) -> Groups:
    """The channels of each of the network's own outputs."""
    owners = [output.name for output in model.trained_outputs for _ in output.channel_names]
    groups: Groups = {}
    for number in wanted:
        groups.setdefault(owners[number], []).append(number)
    return groups


def _numbers(listed: Sequence[str], model: TrainedModel, option: str) -> Iterator[int]:
    """The numbers of channels that an option lists."""
    names, outputs, begin = model.trained_channels, {}, 0
    for output in model.trained_outputs:
        outputs[output.name] = range(begin, begin + len(output.channel_names))
        begin += len(output.channel_names)
    for text in listed:
        if names.count(text) > 1:
            found = ", ".join(str(n) for n, name in enumerate(names) if name == text)
            raise ConfigError(
                f"{option}{text}: {model.path} has several channels of that name. Use their "
                f"numbers: {found}."
            )
        if text in names:
            yield names.index(text)
        elif text in outputs:
            yield from outputs[text]
        else:
            yield from _range(text, model, option)


def _range(text: str, model: TrainedModel, option: str) -> range:
    """The channels of `3`, `0:3`, `:3` or `3:`."""
    count = len(model.trained_channels)
    found = re.fullmatch(r"(\d{0,6})(?:(:)(\d{0,6}))?", text)
    if found is not None and (found[1] or found[2]):
        begin = int(found[1] or 0)
        end = int(found[3] or count) if found[2] else begin + 1
        if begin < end <= count:
            return range(begin, end)
    raise ConfigError(f"{option}{shown(text)[1:-1]}: {_known(model)}")


def _known(model: TrainedModel) -> str:
    """What channels there are."""
    names = model.trained_channels
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    listed = ", ".join(names[:_MAX_LISTED]) + more
    outputs = ", ".join(output.name for output in model.trained_outputs if output.name)
    return (
        f"{model.path} has no such channel; its channels are {listed} (0 to {len(names) - 1})"
        + (f", its outputs {outputs}." if outputs else ".")
    )


def _check_once(numbers: Iterable[int], model: TrainedModel, option: str) -> None:
    seen: set[int] = set()
    for number in numbers:
        if number in seen:
            raise ConfigError(
                f"{option}: channel {model.trained_channels[number]} ({number}) is chosen twice."
            )
        seen.add(number)


def _output(model: TrainedModel, name: str, numbers: Sequence[int]) -> NetworkOutput:
    """An array of some channels, with what holds for all of them."""
    owners = [output for output in model.trained_outputs for _ in output.channel_names]
    ranges = {owners[number].output_range for number in numbers}
    activations = {owners[number].activation for number in numbers}
    return NetworkOutput(
        name,
        tuple(model.trained_channels[number] for number in numbers),
        ranges.pop() if len(ranges) == 1 else None,
        activations.pop() if len(activations) == 1 else None,
    )
