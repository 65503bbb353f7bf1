"""The commands in docs/models.md, as they would be typed: options, values and number of words."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from blockwise_predict.cli import predict
from blockwise_predict.config.model import RunConfig, load_config
from tests.support.shared import ROOT

TEXT = (ROOT / "docs" / "models.md").read_text()
LINES = re.findall(r"^ {4}(predict .*)$", TEXT.replace("\\\n", " "), re.MULTILINE)


@pytest.mark.parametrize("line", LINES)
def test_each_command_is_accepted(line: str) -> None:
    _, name, *words = shlex.split(line, comments=True)
    # Raises UsageError for what `predict` would refuse before it opens a file.
    parsed = predict.commands[name].make_context(name, words)
    if name in ("run", "plan"):
        given = {key: parsed.params[key] or None for key in RunConfig.model_fields}
        load_config(given, parsed.params["config"])


def test_every_way_in_and_out_has_its_command() -> None:
    assert {line.split()[1] for line in LINES} >= {"run", "inspect", "export"}


def test_links_lead_somewhere() -> None:
    def anchor(title: str) -> str:
        return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")

    anchors = {anchor(title) for title in re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)}
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        file, _, place = target.partition("#")
        assert not file or Path(ROOT / "docs" / file).exists(), target
        assert not place or file or place in anchors, target
