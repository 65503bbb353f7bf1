"""Checkpoints on the Hub: the commit that a revision stood for when a run began stays the run's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from blockwise_predict.config.model import RunConfig
from blockwise_predict.plan.model import Plan
from blockwise_predict.plan.opened import Opened


def with_recorded_commits(config: RunConfig, recorded: Plan | None) -> RunConfig:
    """The configuration with the commits that its checkpoints were at in the run's record."""
    if recorded is None:
        return config
    pinned = {
        each.network.requested: path
        for each, (path, _) in zip(recorded.each, recorded.config.checkpoints, strict=True)
        if each.network.requested is not None
    }
    return _with_paths(config, [pinned.get(path, path) for path, _ in config.checkpoints])


def with_commits(opened: Opened, requested: RunConfig) -> Opened:
    """The configuration with the commits of the checkpoints that were `requested` from the Hub."""
    named = [path for path, _ in requested.checkpoints]
    on_hub = [model.cached is not None for model in opened.models]
    if not any(on_hub):
        return opened
    addresses = [
        str(model.options["checkpoint"]) if cached else path
        for model, cached, path in zip(opened.models, on_hub, named, strict=True)
    ]
    names = (path if cached else None for path, cached in zip(named, on_hub, strict=True))
    config = _with_paths(opened.config, addresses)
    return replace(opened, config=config, requested=tuple(names))


def commit_notes(opened: Opened) -> Iterator[str]:
    """Which commits checkpoints on the Hub are at, unless they were named by their commits."""
    for name, (path, _) in zip(opened.requested, opened.config.checkpoints, strict=False):
        if name not in (None, path):
            yield f"checkpoint {name} is {path} in this run"


def _with_paths(config: RunConfig, paths: Sequence[str]) -> RunConfig:
    checkpoint = paths[0] if isinstance(config.checkpoint, str) else tuple(paths)
    return config.model_copy(update={"checkpoint": checkpoint})
