"""Checkpoints on the Hub: the commit that a revision stood for when a run began stays the run's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from blockwise_predict.config.model import RunConfig
from blockwise_predict.plan.model import Plan
from blockwise_predict.plan.opened import Opened


def with_recorded_commit(config: RunConfig, recorded: Plan | None) -> RunConfig:
    """The configuration with the commit that its checkpoint was at in the run's record."""
    if recorded is None or config.checkpoint != recorded.network.requested:
        return config
    return config.model_copy(update={"checkpoint": recorded.config.checkpoint})


def with_commit(opened: Opened, requested: str) -> Opened:
    """The configuration with the commit of a checkpoint that was `requested` from the Hub."""
    if opened.model.cached is None:
        return opened
    address = opened.model.options["checkpoint"]
    config = opened.config.model_copy(update={"checkpoint": address})
    return replace(opened, config=config, requested=requested)


def commit_notes(opened: Opened) -> Iterator[str]:
    """Which commit a checkpoint on the Hub is at, unless it was named by its commit."""
    if opened.requested not in (None, opened.config.checkpoint):
        yield f"checkpoint {opened.requested} is {opened.config.checkpoint} in this run"
