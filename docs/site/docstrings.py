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
    paragraphs = described.docstring.value.split("\n\n")
    begins = re.compile(rf"(?:{'|'.join(map(re.escape, names))}): ")
    for index, paragraph in enumerate(paragraphs):
        if begins.match(paragraph):
            indented = "\n".join(f"    {line}" for line in paragraph.splitlines())
            paragraphs[index] = f"{heading}:\n{indented}"
    described.docstring.value = "\n\n".join(paragraphs)
