"""The options of predictions on demand, for `predict view` and `predict serve`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import click

from blockwise_predict.cli.options import Command, run_option
from blockwise_predict.config.model import OPTIONS, PREDICTION_KEYS

if TYPE_CHECKING:
    from blockwise_predict.view.computed import OnDemand

_KEYS = ("checkpoint", "input", "voxel_size", "offset", "roi", *PREDICTION_KEYS)
_UNSET = {"block_shape": "64,64,64, or the network's tile if it is fixed"}


def prediction_options(function: Command) -> Command:
    """The options of `predict run` that concern the prediction itself, in their usual order."""
    for key in (key for key in reversed(OPTIONS) if key in _KEYS):
        function = run_option(key, unset=_UNSET.get(key), repeated=True)(function)
    return function


def given_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those that were given; flags that were not are False."""
    # Not by `in`, since a number that is 0 equals False.
    return {
        key: value for key, value in options.items() if value is not None and value is not False
    }


def open_predictions(given: Mapping[str, Any]) -> OnDemand:
    """The predictions, with what the user should know of them told on stderr."""
    from blockwise_predict.view.computed import open_on_demand

    made = open_on_demand(given)
    for note in made.plan.notes:
        click.echo(note, err=True)
    warn(made.plan.warnings)
    return made


def warn(texts: Iterable[str]) -> None:
    """Warn on stderr."""
    for text in texts:
        click.echo(f"Warning: {text}", err=True)
