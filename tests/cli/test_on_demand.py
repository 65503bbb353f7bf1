"""The options of predictions on demand, as they are typed."""

from __future__ import annotations

from typing import Any

import click
from click.testing import CliRunner

from blockwise_predict.cli.on_demand import given_options, prediction_options


def given(*words: str) -> dict[str, Any]:
    """What a command with these options is given."""
    found: dict[str, Any] = {}

    @click.command()
    @prediction_options
    def command(**options: Any) -> None:
        found.update(given_options(options))

    CliRunner().invoke(command, words, catch_exceptions=False, standalone_mode=False)
    return found


def test_each_checkpoint_of_an_ensemble_is_kept() -> None:
    words = ["--checkpoint", "a.pt", "--architecture", "a.yaml"]
    assert given(*words) == {"checkpoint": "a.pt", "architecture": "a.yaml"}
    words += ["--checkpoint", "b.pt", "--architecture", "b.yaml"]
    assert given(*words) == {
        "checkpoint": ("a.pt", "b.pt"),
        "architecture": ("a.yaml", "b.yaml"),
    }


def test_numbers_that_are_0_are_kept() -> None:
    assert given("--iteration", "0", "--overlap", "0.0") == {"iteration": 0, "overlap": 0.0}
