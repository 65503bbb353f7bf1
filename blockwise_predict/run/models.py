"""Networks as Python users give them: paths, opened checkpoints, or lists of either."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from blockwise_predict.checkpoint import TrainedModel
from blockwise_predict.errors import ConfigError

Models = str | Path | TrainedModel | Sequence[str | Path | TrainedModel]


def given_models(models: Models) -> tuple[dict[str, Any], list[TrainedModel] | None]:
    """The options that name the networks; and the networks, if all of them are opened.

    Raises ConfigError for no network.
    """
    items = [models] if isinstance(models, (str, Path, TrainedModel)) else list(models)
    if not items:
        raise ConfigError("model: the list is empty; give at least one checkpoint.")
    opened = [item for item in items if isinstance(item, TrainedModel)]
    if len(items) == 1 and opened:
        return dict(opened[0].options), opened
    options: dict[str, Any] = {"checkpoint": [_path(item) for item in items]}
    files = [item.options.get("architecture") for item in opened]
    if len(opened) == len(items) and all(file is not None for file in files):
        options["architecture"] = files
    for key in ("activation", "factory"):
        declared = {item.options.get(key) for item in opened}
        if len(opened) == len(items) and len(declared) == 1 and None not in declared:
            options[key] = declared.pop()
    if any(item.options.get("unsafe_load_pickle") for item in opened):
        options["unsafe_load_pickle"] = True
    return options, opened if len(opened) == len(items) else None


def _path(item: str | Path | TrainedModel) -> str:
    """A path that opens a network, of a run folder the iteration that was opened."""
    if not isinstance(item, TrainedModel):
        return str(item)
    from_folder = item.iteration is not None and item.options.get("iteration") is not None
    return item.path if from_folder else str(item.options["checkpoint"])
