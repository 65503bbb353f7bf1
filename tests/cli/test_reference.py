"""docs/reference.md and docs/cli.md are what the options and commands say."""

from __future__ import annotations

import runpy
from typing import Any

import pytest

from blockwise_predict.config.model import OPTIONS
from tests.support.shared import ROOT

TEXT = (ROOT / "docs" / "reference.md").read_text()
SCRIPT: dict[str, Any] = runpy.run_path(str(ROOT / "docs" / "reference.py"))


@pytest.mark.parametrize("name", ["reference", "cli"])
def test_it_is_up_to_date(name: str) -> None:
    text = (ROOT / "docs" / f"{name}.md").read_text()
    assert SCRIPT[name]() == text, "run python docs/reference.py"


@pytest.mark.parametrize("key", OPTIONS)
def test_it_has_a_row_for_every_option(key: str) -> None:
    option = OPTIONS[key]
    rows = [line for line in TEXT.splitlines() if line.startswith(f"| `{option.name}` |")]
    assert len(rows) == 1
    assert SCRIPT["cell"](option.description) in rows[0]
    assert all(f"`{choice}`" in rows[0] for choice in option.choices)
