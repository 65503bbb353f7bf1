"""Long steps before a run, and of other commands, are seen on a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from blockwise_predict.cli import console
from blockwise_predict.cli import progress as cli_progress
from blockwise_predict.config.steps import Doing, step, watched_by
from blockwise_predict.run.planned import plan_run
from blockwise_predict.run.verification.verify import verify
from tests.support.runs import completed_run, tiny_config, write_volume
from tests.support.terminals import Terminal, terminal


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """The terminal that commands write to."""
    with terminal(80, 10) as made, open(made.device, "w") as device:
        monkeypatch.setattr(console, "make_console", lambda: Console(file=device, width=80))
        monkeypatch.setenv("TERM", "xterm")
        yield made


def comes(screen: Terminal, text: str) -> bool:
    """Whether a text appears within a few seconds; bars are drawn ten times a second."""
    return any(text in line for _ in range(30) for line in screen.read(0.1))


def test_a_step_names_its_own_steps_and_leaves_nothing(shown: Terminal) -> None:
    with console.step("Planning"), step("reading the mask [/bold]", 4) as to:
        to(1)
        assert comes(shown, "Planning: reading the mask [/bold], 25%")
    shown.read(0.2)
    assert not any(shown.read(0.2))


def test_a_bar_names_steps_beside_its_blocks(shown: Terminal) -> None:
    with cli_progress.BlockProgress("Checking") as progress:
        progress.to(4, 5)
        with step("computing blocks again", 2) as to:
            to(1)
            assert comes(shown, "Checking: computing blocks again, 50%")
            assert comes(shown, "4/5 blocks")


def seen_of(told: list[Doing | None]) -> list[str]:
    return list(dict.fromkeys(doing.what for doing in told if doing is not None))


def test_the_long_steps_of_planning_are_told(tmp_path: Path) -> None:
    mask = write_volume(tmp_path / "mask.zarr", np.ones((10, 10, 10), np.uint8), (20, 20, 20))
    config = tiny_config(tmp_path, (20, 20, 20), mask=mask, normalize="zscore:auto")
    told: list[Doing | None] = []
    with watched_by(told.append):
        plan_run(config)
    assert {
        *("opening checkpoint and input", "choosing blocks and tiles", "hashing the weights"),
        *("hashing a sample of the input", "sampling the input's values", "reading the mask"),
        *("looking for chunks of the input that are missing",),
        *("sampling the input for jumps of contrast",),
    } <= set(seen_of(told))
    assert told[-1] is None


def test_blocks_that_are_computed_again_are_told(tmp_path: Path) -> None:
    output = completed_run(tmp_path, (20, 20, 20), precision="float32")
    told: list[Doing | None] = []
    with watched_by(told.append):
        verify(output, sample=1, seed=0)
    assert Doing("computing blocks again", 1, 1) in told
