"""Messages that docs/troubleshooting.md and docs/cluster.md quote are messages of the code."""

from __future__ import annotations

import ast
import re

import pytest

from tests.support.shared import ROOT

TEXT = (ROOT / "docs" / "troubleshooting.md").read_text()
TABLE = (ROOT / "docs" / "cluster.md").read_text().partition("## Troubleshooting")[2]
QUOTED = [
    *re.findall(r"^> `([^`]+)`$", TEXT, re.MULTILINE),
    *re.findall(r"^\| `([^`]*\.\.\.[^`]*)`.*\|.*\|$", TABLE, re.MULTILINE),
]
# What stands for a value in a text of the code, as `...` does in a quoted message.
VALUE = "\0"


def texts_of(tree: ast.AST) -> list[str]:
    """Literal texts of a module; those that are written one after another are one."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [p.value if isinstance(p, ast.Constant) else VALUE for p in node.values]
            found.append("".join(map(str, parts)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(node.value)
    return found


@pytest.fixture(scope="module")
def texts() -> list[str]:
    files = (ROOT / "blockwise_predict").rglob("*.py")
    return [text for file in files for text in texts_of(ast.parse(file.read_text()))]


@pytest.mark.parametrize("message", QUOTED)
def test_a_quoted_message_is_one_of_the_code(message: str, texts: list[str]) -> None:
    parts = [part.strip() for part in message.split("...")]
    assert max(map(len, parts)) >= 10, "too short to be told from any other text"
    assert any(holds(text, parts) for text in texts)


def holds(text: str, parts: list[str]) -> bool:
    """Whether parts are in a text, one after another."""
    at = 0
    for part in parts:
        found = text.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return True


def test_there_are_messages_for_most_troubles() -> None:
    assert len(QUOTED) > 30
