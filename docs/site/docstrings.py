"""Extension of griffe: parameters in our docstrings, `name: text`, as a list of arguments."""

from __future__ import annotations

import re
from typing import Any

import griffe


class Parameters(griffe.Extension):
    """Put the lines that describe parameters under the heading that griffe's parser looks for."""

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        names = [parameter.name.lstrip("*") for parameter in func.parameters]
        _mark(func, names)

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        _mark(cls, list(cls.attributes), "Attributes")


def _mark(described: griffe.Object, names: list[str], heading: str = "Args") -> None:
    if described.docstring is None or not names:
        return
    name = "|".join(map(re.escape, names))
    begins = re.compile(rf"^((?:{name})(?:, (?:{name}))*): ")
    paragraphs = described.docstring.value.split("\n\n")
    for index, paragraph in enumerate(paragraphs):
        if begins.match(paragraph):
            lines = [begins.sub(_first, line, count=1) for line in paragraph.splitlines()]
            paragraphs[index] = "\n".join([f"{heading}:", *(f"    {line}" for line in lines)])
    described.docstring.value = "\n\n".join(paragraphs)


def _first(match: re.Match[str]) -> str:
    """Several names that share a text: the first, and the others in the text."""
    first, *others = match[1].split(", ")
    return f"{first}: " + (f"(and {', '.join(f'`{name}`' for name in others)}) " if others else "")
